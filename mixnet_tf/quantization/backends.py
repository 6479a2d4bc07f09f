"""The two quantizers behind one interface: a float graph and the range of every tensor, to int8."""

import importlib.util
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.checks import reason
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph, Op
from mixnet_tf.progress.steps import step
from mixnet_tf.quantization.float_ops import float_ops, parts
from mixnet_tf.quantization.types import Ranges
from mixnet_tf.quiet import errors_only, quiet


def to_int8(graph: FlatGraph, ranges: Ranges, backend: str, blocks: Sequence[str] = ()) -> FlatGraph:
    """Quantize weights, activations, input and output of a float graph to int8.

    Args:
        graph: not changed.
        ranges: of every computed tensor.
        backend: ``"litert-quantizer"``, which leaves in float32 what gains nothing by int8 (``float_ops``), or
            ``"tf.lite"``.
        blocks: stay in float32: names of ``float_ops.parts`` (litert-quantizer only).

    Raises:
        DeployError: a tensor has no range, or the back end is not installed or refuses the graph.
    """
    missing = [graph.name(index) for index in graph.float_tensors() if index not in ranges]
    if missing:
        raise DeployError(f"tensor {min(missing)!r} has no range; expected one of every computed tensor")
    return _run(_INT8[backend], graph, ranges, blocks)


def weights_to_int8(graph: FlatGraph) -> FlatGraph:
    """Store the weights of a float graph as int8, one scale per output channel; the arithmetic stays float."""
    return _run(_weights_litert, graph)


def choose_backend(asked: str | None) -> str:
    """Return the back end to use: the one asked for, else litert-quantizer where it is installed, else tf.lite.

    Raises:
        DeployError: the one asked for is not installed.
    """
    installed = importlib.util.find_spec("litert_quantizer") is not None
    if asked == "litert-quantizer" and not installed:
        raise DeployError("backend litert-quantizer: not installed; install litert-quantizer, or take tf.lite")
    return asked or ("litert-quantizer" if installed else "tf.lite")


@step("quantize")
def _run(quantizer: Callable[..., bytes], graph: FlatGraph, *arguments: Any) -> FlatGraph:
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # litert-quantizer opens the model with a debugging option, which warns
            content = quantizer(graph, *arguments)
    except Exception as error:  # both raise their own, undocumented kinds
        raise DeployError(f"the quantizer refused the model: {reason(error)}") from error
    return FlatGraph(content)


def _weights_litert(graph: FlatGraph) -> bytes:
    from litert_quantizer import recipe

    return _litert_quantizer(graph, recipe.weight_only_wi8_afp32(), None)


def _int8_litert(graph: FlatGraph, ranges: Ranges, blocks: Sequence[str]) -> bytes:
    from litert_quantizer import recipe

    limits = {graph.name(i): {"min": np.array([low]), "max": np.array([high])} for i, (low, high) in ranges.items()}
    members = parts(graph) if blocks else {}
    in_float = [*float_ops(graph), *(op for block in blocks for op in members[block])]
    return _litert_quantizer(graph, recipe.static_wi8_ai8(), limits, in_float)


def _litert_quantizer(graph: FlatGraph, recipe: Any, limits: dict | None, in_float: Sequence[Op] = ()) -> bytes:
    """Run the quantizer; the operators `in_float` stay as they are, and the graph's outputs are int8 nevertheless."""
    from litert_quantizer.qtyping import TFLOperationName
    from litert_quantizer.quantizer import AlgorithmName, Quantizer

    quantizer = Quantizer(bytearray(graph.content()))
    quantizer.load_quantization_recipe(recipe)
    if in_float:
        names = ["".join(f"{graph.name(index)};" for index in op.outputs) for op in in_float]
        exactly = f"^(?:{'|'.join(map(re.escape, names))})$"
        everything = TFLOperationName.ALL_SUPPORTED
        quantizer.update_quantization_recipe(exactly, everything, algorithm_key=AlgorithmName.NO_QUANTIZE)
        quantizer.add_static_config("^", TFLOperationName.OUTPUT, 8, 8)  # which is called like the operator before it
    with errors_only("absl"):
        result = quantizer.quantize(limits, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _int8_tf_lite(graph: FlatGraph, ranges: Ranges, blocks: Sequence[str]) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize  # what TFLiteConverter calls after its own calibration

    graph = graph.copy()
    for index in graph.float_tensors():
        low, high = ranges[index]
        graph.set_quantization(index, schema.QuantizationParametersT(min=[float(low)], max=[float(high)]))
    return mlir_quantize(graph.content(), fully_quantize=True, input_data_type=tf.int8, output_data_type=tf.int8)


_INT8 = {"litert-quantizer": _int8_litert, "tf.lite": _int8_tf_lite}
