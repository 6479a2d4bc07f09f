"""The op table of any ``.tflite``: what XNNPACK, LiteRT's fast CPU path, takes, what stays outside and why.

What is delegated is read off the real interpreter: after its delegate has taken the ops it can run, the remaining
execution plan shows the rest. The rules below only name the reason.
"""

import dataclasses
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from mixnet_tf.deploy.kernels import MAX_TAPS
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.runtime import open_interpreter


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A tensor of the graph; `scale` and `zero_point` are None where it is not quantized per tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


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
    """What a ``.tflite`` holds; ``dataclasses.asdict`` gives JSON."""

    path: str
    size_bytes: int
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
        path: the file. Only its main subgraph is listed.

    Raises:
        DeployError: no such file, not a ``.tflite``, truncated, or one that LiteRT cannot load.

    Example:
        >>> table = inspect_model("model_int8.tflite")                                           # doctest: +SKIP
        >>> [op.name for op in table.outside], len(table.cliffs)                                 # doctest: +SKIP
        (['SOFTMAX'], 0)
    """
    path = Path(path)
    if not path.is_file():
        raise DeployError(f"{path}: no such file; expected a .tflite")
    content = path.read_bytes()
    graph = _Subgraph(content, path)
    outside = _outside(open_interpreter(path))
    return ModelTable(
        path=str(path),
        size_bytes=len(content),
        inputs=tuple(graph.tensor(i) for i in graph.inputs),
        outputs=tuple(graph.tensor(i) for i in graph.outputs),
        ops=tuple(_row(op, op.index not in outside) for op in graph.ops),
    )


def _outside(interpreter) -> set[int]:
    """Return the indices of the ops that still run by themselves once the delegate has taken its share.

    The interpreter lists the original ops and, behind them, one DELEGATE op for each part that was taken. Walking back
    from the outputs, with a DELEGATE preferred wherever one makes a tensor, meets exactly what is executed. So are ops
    whose result nothing reads; inside the delegate, such a result has no memory.
    """
    ops = interpreter._get_ops_details()
    maker = {int(tensor): op for op in ops for tensor in op["outputs"]}  # DELEGATE ops come last and win
    unread = maker.keys() - {int(tensor) for op in ops for tensor in op["inputs"]}
    pending = [int(detail["index"]) for detail in interpreter.get_output_details()]
    pending += [tensor for tensor in unread if _has_memory(interpreter, tensor)]
    seen, executed = set(), set()
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


def _has_memory(interpreter, tensor: int) -> bool:
    try:
        interpreter.get_tensor(tensor)
    except ValueError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class _Op:
    """An op as the rules see it."""

    index: int
    name: str
    inputs: tuple[TensorInfo | None, ...]
    outputs: tuple[TensorInfo, ...]
    dynamic: bool

    @property
    def dtype(self) -> str:
        return self.outputs[0].dtype if self.outputs else "none"


class _Subgraph:
    """The main subgraph of the flatbuffer."""

    def __init__(self, content: bytes, path: Path):
        from ai_edge_litert import schema_py_generated as schema

        if content[4:8] != b"TFL3":
            raise DeployError(f"{path}: not a .tflite (bytes 4 to 8 are {content[4:8]!r}, expected b'TFL3')")
        try:
            model = schema.ModelT.InitFromPackedBuf(content, 0)
            self._graph = model.subgraphs[0]
            self.inputs, self.outputs = list(self._graph.inputs), list(self._graph.outputs)
            self._codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
            self._custom = [c.customCode for c in model.operatorCodes]
            self._types = _names(schema.TensorType)
            self._builtins = _names(schema.BuiltinOperator)
            self._tensors = [self._read(t) for t in self._graph.tensors]
            self.ops = tuple(self._read_ops())
        except (struct.error, IndexError, TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
            raise DeployError(f"{path}: truncated or damaged .tflite, its tables cannot be read") from error

    def _read(self, tensor) -> TensorInfo:
        quantization = tensor.quantization
        scales = [] if quantization is None or quantization.scale is None else list(quantization.scale)
        points = [] if quantization is None or quantization.zeroPoint is None else list(quantization.zeroPoint)
        return TensorInfo(
            name=(tensor.name or b"").decode(),
            shape=() if tensor.shape is None else tuple(int(size) for size in tensor.shape),
            dtype=self._types[tensor.type].lower(),
            scale=float(scales[0]) if len(scales) == 1 else None,
            zero_point=int(points[0]) if len(points) == len(scales) == 1 else None,
        )

    def tensor(self, index: int) -> TensorInfo:
        return self._tensors[index]

    def _read_ops(self) -> Iterator[_Op]:
        for i, op in enumerate(self._graph.operators):
            custom = self._custom[op.opcodeIndex]
            inputs = [] if op.inputs is None else op.inputs
            outputs = [] if op.outputs is None else op.outputs
            signatures = [self._graph.tensors[t].shapeSignature for t in [*inputs, *outputs] if t >= 0]
            yield _Op(
                index=i,
                name=f"custom {custom.decode()}" if custom else self._builtins[self._codes[op.opcodeIndex]],
                inputs=tuple(self._tensors[t] if t >= 0 else None for t in inputs),
                outputs=tuple(self._tensors[t] for t in outputs),
                dynamic=any(signature is not None and -1 in signature for signature in signatures),
            )


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _row(op: _Op, delegated: bool) -> OpInfo:
    return OpInfo(
        index=op.index,
        name=op.name,
        dtype=op.dtype,
        inputs=tuple(tensor.shape for tensor in op.inputs if tensor is not None),
        outputs=tuple(tensor.shape for tensor in op.outputs),
        delegated=delegated,
        reason="" if delegated else next(reason for applies, reason in _REASONS if applies(op)),
        cliff=_cliff(op),
    )


def _cliff(op: _Op) -> str:
    if op.name != "DEPTHWISE_CONV_2D" or len(op.inputs) < 2 or len(op.inputs[1].shape) != 4:
        return ""
    height, width = op.inputs[1].shape[1:3]
    if height * width <= MAX_TAPS:
        return ""
    return (
        f"{height}x{width} depthwise kernel: XNNPACK's fast kernels end at {MAX_TAPS} taps, "
        "so this runs tens of times slower than 5x5"
    )


_FLOAT_ONLY = ("HARD_SWISH", "SOFTMAX", "GELU", "AVERAGE_POOL_2D", "PRELU", "EXP", "DIV", "SQRT", "MAXIMUM", "MINIMUM")
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def _is_int8(op: _Op) -> bool:
    return op.dtype in ("int8", "uint8")


_REASONS: tuple[tuple[Callable[[_Op], bool], str], ...] = (
    (lambda op: op.name.startswith("custom "), "not a built-in op"),
    (lambda op: op.dtype == "int16" or any(t and t.dtype == "int16" for t in op.inputs), "int16 activations"),
    (
        lambda op: op.name == "QUANTIZE" and {"uint8", "int8"} == {op.inputs[0].dtype, op.dtype},
        "changes between uint8 and int8",
    ),
    (
        lambda op: _is_int8(op) and op.name.startswith("RELU"),
        "int8 activation by itself: fuse it into the convolution before it",
    ),
    (lambda op: _is_int8(op) and op.name in _FLOAT_ONLY, "XNNPACK runs it in float only, not in int8"),
    (
        lambda op: op.name in _CONVOLUTIONS and len(op.inputs) < 3,
        "convolution without a bias",
    ),
    (
        lambda op: op.name in _CONVOLUTIONS and op.dtype == "float32" and op.inputs[1].dtype == "int8",
        "int8 weights with float activations",
    ),
    (lambda op: op.name == "CONCATENATION" and len(op.inputs) > 5, "more than 5 inputs"),
    (lambda op: op.name == "SPLIT" and len(op.outputs) > 4, "more than 4 outputs"),
    (lambda op: op.name == "SPLIT_V", "XNNPACK has SPLIT, with equal parts, and no SPLIT_V"),
    (lambda op: op.name == "STRIDED_SLICE" and not op.dynamic, "takes every n-th value, or drops an axis"),
    (lambda op: op.dynamic, "a shape is not static: convert with a fixed batch and image size"),
    (lambda op: True, "XNNPACK does not take this op with these types or arguments"),
)
