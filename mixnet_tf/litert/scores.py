"""What a graph's output says of the classes, read off its last operators, and how to make it say something else."""

from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.data.choices import SCORES
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph, Op
from mixnet_tf.litert.neighbours import writers

_NO_ACTIVATION = schema.ActivationFunctionType.NONE
_ENDS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}
_WEIGHTED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")
_SAME = ("RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE")
_LINEAR = (*_SAME, "ADD", "SUB", "MUL", "MEAN", "SUM", "CONCATENATION", "AVERAGE_POOL_2D")


def scores_of(graph: FlatGraph) -> str | None:
    """Return one of SCORES; None where the last operator does not tell, or for what is no classifier.

    Example:
        >>> from mixnet_tf import convert, create_model
        >>> scores_of(convert(create_model("mixnet_nano", classes=10), image_size=32))
        'softmax'
    """
    op = _last(graph)
    if op is None or len(graph.shape(graph.outputs[0])) != 2:
        return None
    return _ENDS.get(op.name) or ("logits" if _is_linear(op, graph) else None)


def _is_linear(last: Op, graph: FlatGraph) -> bool:
    """Say whether what an operator gives is a weighted sum, of which nothing but sums and means are taken."""
    writing = writers(graph)
    waiting, seen = [last], {last.outputs}
    while waiting:
        op = waiting.pop()
        if getattr(op.options, "fusedActivationFunction", _NO_ACTIVATION) != _NO_ACTIVATION:
            return False
        if op.name in _WEIGHTED:
            continue
        sources = [index for index in op.inputs if index >= 0 and not graph.is_constant(index)]
        if op.name not in _LINEAR or not sources or not all(index in writing for index in sources):
            return False
        new = {writing[index].outputs: writing[index] for index in sources}
        waiting += [op for outputs, op in new.items() if outputs not in seen]
        seen |= set(new)
    return True


def is_rounded(graph: FlatGraph) -> bool:
    """Say whether a graph ends in probabilities that are not float."""
    op = _last(graph)
    return op is not None and op.name in _ENDS and graph.tensor(op.outputs[0]).dtype != "float32"


def logit_step(graph: FlatGraph) -> float | None:
    """Return the int8 step of a graph's logits; None where they are float, or where there are none."""
    writing = writers(graph)
    op = _last(graph)
    if op is None:
        return None
    index = op.inputs[0] if op.name in _ENDS else op.outputs[0]
    while index in writing and writing[index].name in ("DEQUANTIZE", *_SAME):
        index = writing[index].inputs[0]
    return graph.tensor(index).scale


def _last(graph: FlatGraph) -> Op | None:
    """Return the operator that computes the only output, but for those that change its form alone."""
    if len(graph.outputs) != 1:
        return None
    writing = writers(graph)
    op = writing.get(graph.outputs[0])
    while op is not None and op.name in _SAME:
        op = writing.get(op.inputs[0])
    return op


def to_logits(graph: FlatGraph) -> None:
    """Take a softmax or sigmoid off the end of a graph: int8 would round its small probabilities to nothing.

    Given: logits (1, c) → SOFTMAX → y. Result: logits (1, c); a RESHAPE behind it stays.
    """
    op = _last(graph)
    if op is not None and op.name in _ENDS:
        graph.drop(op)


def add_scores(graph: FlatGraph, scores: str) -> None:
    """Put the operator behind float logits that makes them scores.

    Given: logits (1, c) float32. Result: logits → SOFTMAX → probabilities (1, c).
    """
    if scores == "softmax":
        graph.append("SOFTMAX", "probabilities", schema.SoftmaxOptionsT(beta=1.0), type=schema.TensorType.FLOAT32)
    elif scores == "sigmoid":
        graph.append("LOGISTIC", "probabilities", type=schema.TensorType.FLOAT32)


def check_scores(graph: FlatGraph, asked: str, instead: str = "float32") -> None:
    """Refuse scores that do not follow from what a graph gives; `instead` is a recipe without scores.

    Raises:
        DeployError: another kind of model, or scores that contradict its last operator.
    """
    shapes = [graph.shape(index) for index in graph.outputs]
    if [len(shape) for shape in shapes] != [2]:
        outputs = ", ".join(map(str, shapes))
        raise DeployError(f"{graph.where}: gives {outputs}; scores need a classifier, with one output (1, classes)")
    if asked == "softmax" and shapes[0][1] == 1:
        raise DeployError(f"{graph.where}: gives one number, whose softmax is always 1; expected --scores sigmoid")
    given = scores_of(graph)
    if given is None:
        raise DeployError(
            f"{graph.where}: ends in {graph.ops[-1].name}, which does not tell {', '.join(SCORES)} apart; for "
            f"features, take a recipe without scores: --recipe {instead}"
        )
    if given not in (asked, "logits") and asked != "logits":
        raise DeployError(f"{graph.where}: ends in {given}; expected --scores {given} or logits, found {asked}")
