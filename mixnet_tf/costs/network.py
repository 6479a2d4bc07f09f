"""What a network will cost on a phone's core, before it is trained: the ledger of its deploy graph."""

from typing import Any

from ai_edge_litert.schema_py_generated import TensorType

from mixnet_tf.costs.ledger import Ledger, ledger
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.litert.convert import convert
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.model import create_model
from mixnet_tf.progress.steps import step

TARGETS = {"float32": "float", "int8": "int8"}
"""Types of a file → the deploy graph that it is made from."""


def cost_network(config: Any, *, image_size: int, classes: int) -> dict[str, Ledger]:
    """Return the ledgers of a network's deploy graph in float32 and in int8.

    The graph is built with fresh weights, on which no count depends. The int8 one is not quantized: it is predicted
    as if each of its operators were, without the few that a quantizer adds where a tensor has two scales.

    Args:
        config: a shipped name, a YAML path, a mapping or a ModelConfig.
        image_size: pixels per side.
        classes: number of classes.

    Example:
        >>> round(cost_network("mixnet_nano", image_size=32, classes=10)["int8"].instructions / 1e6)
        1
    """
    model = create_model(config, classes=classes, classifier_activation=None)
    ledgers = {}
    for dtype, target in TARGETS.items():
        with step(f"build the deploy graph for {dtype}"):
            deployed = deploy_model(model, image_size=image_size, target=target)
        graph = convert(deployed, image_size=image_size)
        ledgers[dtype] = ledger(_as_int8(graph) if dtype == "int8" else graph)
    return ledgers


def _as_int8(graph: FlatGraph) -> FlatGraph:
    """Return a graph whose float32 tensors are called int8; it is no file that runs."""
    called = graph.copy()
    for tensor in called.tensors:
        if tensor.type == TensorType.FLOAT32:
            tensor.type = TensorType.INT8
    return called
