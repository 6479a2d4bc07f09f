"""The op table of any ``.tflite``: what XNNPACK, LiteRT's fast CPU path, takes, what stays outside and why.

What is delegated is read off the real interpreter: after its delegate has taken the ops it can run, the remaining
execution plan shows the rest. The rules below only name the reason.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from mixnet_tf.deploy.kernels import MAX_TAPS
from mixnet_tf.guard.trial import TRIAL
from mixnet_tf.litert.description import About, about_of, labels_of
from mixnet_tf.litert.flatgraph import FlatGraph, Op, TensorInfo
from mixnet_tf.litert.front import lite_front
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.litert.scores import logit_step, scores_of
from mixnet_tf.training.run_models import lite


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpInfo:
    """One op: its built-in name, the type of its output, the shapes of its inputs (weights included) and outputs.

    `reason` says why the op stays outside the delegate, `cliff` why it is slow inside it; both are usually empty.
    """

    index: int
    name: str
    dtype: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    delegated: bool
    reason: str = ""
    cliff: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelTable:
    """What a ``.tflite`` holds; ``dataclasses.asdict`` gives JSON.

    Attributes:
        path: of the file.
        size_bytes: its size.
        about: what its metadata says of it, or None.
        labels: the names of its classes, inside it, or None.
        input_format: what it takes for an image, one of INPUT_FORMATS, or None.
        scores: what it gives, one of SCORES, or None.
        logit_step: the int8 step of its logits; None where they are float.
        inputs: of the main subgraph.
        outputs: likewise.
        ops: likewise.
    """

    path: str
    size_bytes: int
    about: About | None
    labels: tuple[str, ...] | None
    input_format: str | None
    scores: str | None
    logit_step: float | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    ops: tuple[OpInfo, ...]

    @property
    def outside(self) -> tuple[OpInfo, ...]:
        """The ops that the delegate does not run."""
        return tuple(op for op in self.ops if not op.delegated)

    @property
    def cliffs(self) -> tuple[OpInfo, ...]:
        """The ops that have no fast kernel although the delegate runs them."""
        return tuple(op for op in self.ops if op.cliff)


def inspect_model(path: str | Path) -> ModelTable:
    """Return the op table of a ``.tflite``, ours or anyone's, with the verdict of the real XNNPACK delegate.

    Args:
        path: the file, or a folder with one. Only its main subgraph is listed.

    Raises:
        DeployError: no such file, not a ``.tflite``, truncated, or one that LiteRT cannot load.

    Example:
        >>> table = inspect_model("model_int8.tflite")                                           # doctest: +SKIP
        >>> [op.name for op in table.outside], len(table.cliffs)                                 # doctest: +SKIP
        (['SOFTMAX'], 0)
    """
    path = lite(path)
    TRIAL.prepare()
    graph = FlatGraph.read(path)
    outside = _outside(LiteModel(graph, only_load=True), graph)
    return ModelTable(
        path=str(path),
        size_bytes=len(graph.content()),
        about=about_of(graph),
        labels=labels_of(graph),
        input_format=lite_front(graph).input_format if graph.inputs else None,
        scores=scores_of(graph),
        logit_step=logit_step(graph),
        inputs=tuple(graph.tensor(i) for i in graph.inputs),
        outputs=tuple(graph.tensor(i) for i in graph.outputs),
        ops=tuple(_row(graph, i, op, i not in outside) for i, op in enumerate(graph.ops)),
    )


def _outside(model: LiteModel, graph: FlatGraph) -> set[int]:
    """Return the indices of the ops that still run by themselves once the delegate has taken its share.

    The interpreter lists the original ops and, behind them, one DELEGATE op for each part that was taken. Walking back
    from the outputs, with a DELEGATE preferred wherever one makes a tensor, meets exactly what is executed. So are ops
    whose result nothing reads; inside the delegate, such a result has no memory.
    """
    ops = model.interpreter._get_ops_details()
    maker = {int(tensor): op for op in ops for tensor in op["outputs"]}  # DELEGATE ops come last and win
    unread = maker.keys() - {int(tensor) for op in ops for tensor in op["inputs"]}
    pending = [int(details["index"]) for details in model.outputs]
    pending += [tensor for tensor in unread if _has_memory(model, graph, tensor)]
    seen: set[int] = set()
    executed: set[int] = set()
    while pending:
        tensor = pending.pop()
        if tensor in seen or tensor not in maker:
            continue
        seen.add(tensor)
        op = maker[tensor]
        if op["op_name"] != "DELEGATE":
            executed.add(int(op["index"]))
        pending.extend(int(i) for i in op["inputs"])
    return executed


def _has_memory(model: LiteModel, graph: FlatGraph, tensor: int) -> bool:
    if tensor < len(graph.tensors) and graph.tensor(tensor).dtype in _NOT_NUMBERS:
        return True  # the delegate takes none of them, and LiteRT crashes where one is read before it is written
    try:
        model.value(tensor)
    except ValueError:
        return False
    return True


def _row(graph: FlatGraph, index: int, op: Op, delegated: bool) -> OpInfo:
    return OpInfo(
        index=index,
        name=op.name,
        dtype=_dtype(graph, op),
        inputs=tuple(graph.shape(i) for i in op.inputs if i >= 0),
        outputs=tuple(graph.shape(i) for i in op.outputs),
        delegated=delegated,
        reason="" if delegated else next(reason for applies, reason in _REASONS if applies(graph, op)),
        cliff=_cliff(graph, op),
    )


def _cliff(graph: FlatGraph, op: Op) -> str:
    if op.name not in _CONVOLUTIONS or len(op.inputs) < 2 or len(graph.shape(op.inputs[1])) != 4:
        return ""
    _, height, width, per_group = graph.shape(op.inputs[1])
    if op.name == "CONV_2D" and (per_group != 1 or graph.shape(op.inputs[0])[-1:] in ((), (1,))):
        return ""  # with one channel a group, it is a depthwise convolution by another name
    if height * width <= MAX_TAPS:
        return ""
    return (
        f"{height}x{width} depthwise kernel: XNNPACK's fast kernels end at {MAX_TAPS} taps, "
        "so this runs tens of times slower than 5x5"
    )


_NOT_NUMBERS = ("string", "resource", "variant")
_FLOAT_ONLY = ("HARD_SWISH", "SOFTMAX", "GELU", "AVERAGE_POOL_2D", "PRELU", "EXP", "DIV", "SQRT", "MAXIMUM", "MINIMUM")
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def _dtype(graph: FlatGraph, op: Op) -> str:
    return graph.tensor(op.outputs[0]).dtype if op.outputs else "none"


def _reads(graph: FlatGraph, op: Op) -> list[str]:
    return [graph.tensor(index).dtype for index in op.inputs if index >= 0]


def _is_int8(graph: FlatGraph, op: Op) -> bool:
    return _dtype(graph, op) in ("int8", "uint8")


def _changes_sign(graph: FlatGraph, op: Op) -> bool:
    return op.name == "QUANTIZE" and {"uint8", "int8"} == {*_reads(graph, op), _dtype(graph, op)}


def _has_mixed_types(graph: FlatGraph, op: Op) -> bool:
    return op.name in _CONVOLUTIONS and _dtype(graph, op) == "float32" and _reads(graph, op)[1] == "int8"


def is_dynamic(graph: FlatGraph, op: Op) -> bool:
    """Say whether a tensor of an operator has a size that is known only when the graph runs."""
    signatures = [graph.tensors[index].shapeSignature for index in (*op.inputs, *op.outputs) if index >= 0]
    return any(signature is not None and -1 in signature for signature in signatures)


_REASONS: tuple[tuple[Callable[[FlatGraph, Op], bool], str], ...] = (
    (lambda graph, op: op.name.startswith("custom "), "not a built-in op"),
    (lambda graph, op: "int16" in [_dtype(graph, op), *_reads(graph, op)], "int16 activations"),
    (_changes_sign, "changes between uint8 and int8"),
    (
        lambda graph, op: _is_int8(graph, op) and op.name.startswith("RELU"),
        "int8 activation by itself: fuse it into the convolution before it",
    ),
    (
        lambda graph, op: _is_int8(graph, op) and op.name in _FLOAT_ONLY,
        "XNNPACK runs it in float only, not in int8",
    ),
    (lambda graph, op: op.name in _CONVOLUTIONS and len(op.inputs) < 3, "convolution without a bias"),
    (_has_mixed_types, "int8 weights with float activations"),
    (lambda graph, op: op.name == "CONCATENATION" and len(op.inputs) > 5, "more than 5 inputs"),
    (lambda graph, op: op.name == "SPLIT" and len(op.outputs) > 4, "more than 4 outputs"),
    (lambda graph, op: op.name == "SPLIT_V", "XNNPACK has SPLIT, with equal parts, and no SPLIT_V"),
    (
        lambda graph, op: op.name == "STRIDED_SLICE" and not is_dynamic(graph, op),
        "takes every n-th value, or drops an axis",
    ),
    (
        lambda graph, op: is_dynamic(graph, op),
        "a shape is not static: convert with a fixed batch and image size",
    ),
    (lambda graph, op: True, "XNNPACK does not take this op with these types or arguments"),
)
"""Why an op may stay outside: the first that applies is the one shown."""
