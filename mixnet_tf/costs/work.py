"""How much an operator has to do: the kernel that runs it, and how often each of the kernel's loops runs.

XNNPACK's kernels are loops over tiles. A matrix product of M rows, K inputs and N outputs on tiles of 6 x 8 runs its
outer loop ceil(M / 6) times, and its inner one ceil(M / 6) * ceil(N / 8) * K times. Instructions are linear in these
counts, with factors that ``tests/bench/fit_costs.py`` measures. ``KINDS`` has a function for each operator.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from mixnet_tf.deploy.kernels import MAX_TAPS
from mixnet_tf.litert.flatgraph import FlatGraph, Op
from mixnet_tf.litert.op_table import is_dynamic

Counts = tuple[float, ...]

BYTES = {"float32": 4, "int32": 4, "int8": 1, "uint8": 1, "float16": 2, "int16": 2, "int64": 8, "bool": 1}
"""Size of a value."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What an operator has to do.

    Attributes:
        kernel: what runs it, as the table of costs calls it.
        counts: how often each of its loops runs; the first is 1, for what happens once.
    """

    kernel: str
    counts: Counts


@dataclasses.dataclass(frozen=True)
class _Tile:
    """The rows and columns of a matrix product that one kernel call computes, and the depth of its inner loop."""

    rows: int
    columns: int
    depth: int


_TILES = {"float32": _Tile(6, 8, 1), "int8": _Tile(4, 16, 4)}
_NARROW = _Tile(4, 2, 1)
"""Of float32, for outputs that do not fill the tiles."""

_GROUPED = _Tile(4, 8, 1)
_VECTORS = {"float32": (8, 4), "int8": (16, 8), "uint8": (16, 8)}
"""Values that a loop over a vector takes at once, and those that the loop over its rest takes."""

_TAPS = {"float32": (3, 4, 9, MAX_TAPS), "int8": (3, 9, MAX_TAPS)}
"""The depthwise kernels."""

_SUMS = {"float32": (16, 4), "int8": (32, 8)}
"""As _VECTORS, of the kernels that sum up an image; they read seven pixels at a time."""

OWN = "LiteRT's own kernel"
"""What runs an operator that XNNPACK does not take."""

_CLAMPED = (1, 2, 3)
"""Fused activations: ReLU, ReLU from -1 to 1, ReLU6."""


def work(graph: FlatGraph, op: Op, delegated: bool = True) -> Work | None:
    """Return what an operator has to do; None where its kind is not known.

    Args:
        graph: the operator's.
        op: of the graph.
        delegated: XNNPACK runs it, and not LiteRT's own kernel.

    Example:
        >>> graph = FlatGraph.read("model_int8.tflite")                                          # doctest: +SKIP
        >>> work(graph, graph.ops[1])                                                            # doctest: +SKIP
        Work(kernel='CONV_2D 3x3 int8', counts=(1, 64, 64, 576, 576))
    """
    tensors = [index for index in (*op.inputs, *op.outputs) if index >= 0]
    if not op.inputs or not op.outputs or is_dynamic(graph, op) or any(0 in graph.shape(index) for index in tensors):
        return None
    try:
        return _work(graph, op, delegated)
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, ZeroDivisionError):
        return None  # shapes or options that no kernel of the table takes


def _work(graph: FlatGraph, op: Op, delegated: bool) -> Work | None:
    dtypes = [graph.tensor(index).dtype for index in (op.inputs[0], op.outputs[0])]
    known = op.name in KINDS and dtypes[1] in _TILES
    if delegated:
        return KINDS[op.name](graph, op, dtypes[1]) if known else None
    counted = KINDS[op.name](graph, op, dtypes[1]) if known and op.name in _SHAPED else None
    if counted is not None:
        return Work(f"{counted.kernel}, {OWN}", counted.counts)
    return Work(f"{op.name} {' to '.join(dict.fromkeys(dtypes))}, {OWN}", (1, _size(graph, op)))


def _size(graph: FlatGraph, op: Op) -> int:
    return math.prod(graph.shape(op.outputs[0]))


def _parts(values: int, dtype: str) -> Counts:
    """Return how often the loops over a vector run: whole vectors, parts of one, and the rest of a part."""
    whole, part = _VECTORS[dtype]
    rest = values % whole
    return values // whole, rest // part, float(rest % part > 0)


def _matrix(rows: int, inputs: int, outputs: int, dtype: str, *, groups: int = 1, taps: int = 1) -> tuple[str, Counts]:
    """Return the kernel of a matrix product, and how often its loops run."""
    tile = _TILES[dtype]
    narrow = dtype == "float32" and groups == 1 and (outputs < 8 or -(-outputs // 2) * 2 != -(-outputs // 8) * 8)
    if narrow:
        tile = _NARROW
    elif dtype == "float32" and groups > 1 and taps > 1:
        tile = _GROUPED
    calls = groups * -(-rows // (1 if rows == 1 else tile.rows))
    tiles = calls * -(-outputs // tile.columns)
    name = f"{'one row, ' if rows == 1 else ''}{'2 columns, ' if narrow else ''}{dtype}"
    depth = tiles * taps * -(-inputs // tile.depth)
    return name, (1, calls, tiles, tiles * taps, depth) if taps > 1 else (1, calls, tiles, depth)


def _convolution(graph: FlatGraph, op: Op, dtype: str) -> Work | None:
    batch, height, width, outputs = graph.shape(op.outputs[0])
    _, *kernel, per_group = graph.shape(op.inputs[1])
    channels, taps = graph.shape(op.inputs[0])[3], math.prod(kernel)
    groups = channels // per_group
    if per_group == 1 and groups == outputs and groups > 1:
        return _depthwise(graph, op, dtype)
    strided = op.options.strideH * op.options.strideW > 1
    kind = "1x1" if taps == 1 and not strided else "with groups" if groups > 1 else "with a window"
    rows = batch * height * width
    # a window of one tap has the counts of one with more
    name, counts = _matrix(rows, per_group, outputs // groups, dtype, groups=groups, taps=1 if kind == "1x1" else taps)
    if kind != "1x1" and len(counts) == 4:
        counts = (*counts[:3], counts[2], counts[3])
    return Work(f"CONV_2D {kind}, {name}", counts)


def _depthwise(graph: FlatGraph, op: Op, dtype: str) -> Work | None:
    shape, taps = graph.shape(op.outputs[0]), math.prod(graph.shape(op.inputs[1])[1:3])
    return depthwise_work(shape, taps, dtype) if graph.shape(op.inputs[0])[3] == shape[3] else None


def depthwise_work(shape: Sequence[int], taps: int, dtype: str) -> Work:
    """Return the work of a depthwise convolution with a result (batch, height, width, channels)."""
    batch, height, width, channels = shape
    pixels = batch * height * width
    if taps > MAX_TAPS:  # a matrix product for each channel
        calls = channels * -(-pixels // _TILES[dtype].rows)
        return Work(f"DEPTHWISE_CONV_2D above {MAX_TAPS} taps, {dtype}", (1, calls, calls * taps))
    kernel = next(most for most in _TAPS[dtype] if taps <= most)
    parts = (pixels * part for part in _parts(channels, dtype))
    return Work(f"DEPTHWISE_CONV_2D of {kernel} taps, {dtype}", (1, batch * height, pixels, *parts))


def vector_work(name: str, values: int, dtype: str) -> Work:
    """Return the work of an operator of two operands of one shape."""
    return Work(f"{name} {dtype}", (1, 1, *_parts(values, dtype)))


def _dense(graph: FlatGraph, op: Op, dtype: str) -> Work | None:
    if dtype == "int8" and graph.tensor(op.inputs[1]).dtype != "int8":
        return None
    outputs, inputs = graph.shape(op.inputs[1])
    name, counts = _matrix(_size(graph, op) // outputs, inputs, outputs, dtype)
    return Work(f"FULLY_CONNECTED, {name}", counts)


def _binary(graph: FlatGraph, op: Op, dtype: str) -> Work | None:
    """One vector where both operands have a shape, or one is a number; else a row for each place of the smaller one."""
    shapes = [graph.shape(index) for index in op.inputs]
    largest = graph.shape(op.outputs[0])
    padded = [(1,) * (len(largest) - len(shape)) + shape for shape in shapes]
    small = next((shape for shape in padded if shape != largest), None)
    values = math.prod(largest)
    if small is None:
        rows, kind = 1, ""
    elif math.prod(small) == 1:
        rows, kind = 1, "with a number, "
    else:
        inner = _inner(small, largest)
        rows, kind = values // inner, "with a vector, " if small[-1] == largest[-1] > 1 else "with a number per row, "
    clamped = (
        "clamped, " if getattr(op.options, "fusedActivationFunction", 0) in _CLAMPED and dtype == "float32" else ""
    )
    parts = (rows * part for part in _parts(values // rows, dtype))
    return Work(f"{op.name} {kind}{clamped}{dtype}", (1, rows, *parts))


def _inner(small: Sequence[int], largest: Sequence[int]) -> int:
    """Return how many neighbouring values an operand of a smaller shape has, or repeats, at a time."""
    repeats = [a != b for a, b in zip(small, largest, strict=True) if b > 1]
    sizes = [b for b in largest if b > 1]
    count = 1
    for repeated, size in zip(reversed(repeats), reversed(sizes), strict=True):
        if repeated != repeats[-1]:
            break
        count *= size
    return count


def _unary(graph: FlatGraph, op: Op, dtype: str) -> Work:
    source = graph.tensor(op.inputs[0]).dtype
    name = op.name if source == dtype else f"{op.name} {source} to"
    return Work(f"{name} {dtype}", (1, _size(graph, op)))


def _mean(graph: FlatGraph, op: Op, dtype: str) -> Work | None:
    shape = graph.shape(op.inputs[0])
    axes = {int(axis) % len(shape) for axis in graph.constant(op.inputs[1]).reshape(-1)}
    if axes == {len(shape) - 1}:
        rows = math.prod(shape[:-1])
        return Work(f"{op.name} over channels, {dtype}", (1, rows, *(rows * part for part in _parts(shape[-1], dtype))))
    if len(shape) != 4 or axes != {1, 2}:
        return None
    whole, part = _SUMS[dtype]
    pixels, parts = shape[1] * shape[2], (shape[3] // whole, -(-(shape[3] % whole) // part))
    reads = -(-pixels // 7)
    return Work(f"{op.name} over an image, {dtype}", (1, *parts, *(reads * part for part in parts)))


def _join(graph: FlatGraph, op: Op, dtype: str) -> Work:
    shapes = [graph.shape(index) for index in op.inputs]
    rows = math.prod(shapes[0][: op.options.axis % len(shapes[0])])
    return _copies("CONCATENATION", [(rows, math.prod(shape) // rows) for shape in shapes], dtype)


def _split(graph: FlatGraph, op: Op, dtype: str) -> Work | None:
    shapes = [graph.shape(index) for index in op.outputs]
    axis = int(graph.constant(op.inputs[0]).reshape(-1)[0]) % len(shapes[0])
    rows = math.prod(shapes[0][:axis])
    return _copies("SPLIT", [(rows, math.prod(shape) // rows) for shape in shapes], dtype)


def _slice(graph: FlatGraph, op: Op, dtype: str) -> Work:
    """Neighbouring values are copied at once: all from the last axis up to one that is cut, and that one."""
    small, large = graph.shape(op.outputs[0]), graph.shape(op.inputs[0])
    values, length = math.prod(small), 1
    for a, b in zip(reversed(small), reversed(large), strict=False):
        length *= a
        if a != b:
            break
    return _copies("SLICE", [(values // max(length, 1), length)], dtype)


def _copies(name: str, pieces: Sequence[tuple[int, int]], dtype: str) -> Work:
    """Copy pieces, each (rows, values of a row), row by row."""
    size = BYTES[dtype]
    short = sum(rows for rows, values in pieces if values * size % 16)
    moved = sum(rows * (values * size // 32) for rows, values in pieces)
    return Work(f"{name} {dtype}", (1, len(pieces), sum(rows for rows, _ in pieces), short, moved))


def _pad(graph: FlatGraph, op: Op, dtype: str) -> Work:
    """Each pixel of the source is copied between its neighbours' paddings, if any; rows of padding are filled."""
    source, result = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
    copied, filled, size = math.prod(source[:-1]), math.prod(result[:-1]), BYTES[dtype]
    padded = math.prod(source[:-2]) * result[-2] if len(result) > 1 else 1
    vectors = (pixels * (result[-1] * size // 16) for pixels in (copied, filled - copied))
    return Work(f"PAD {dtype}", (1, copied, padded - copied, filled - padded, *vectors))


def _reshape(graph: FlatGraph, op: Op, dtype: str) -> Work:
    return Work("RESHAPE", (1, _size(graph, op) * BYTES[dtype] / 32))


def _pool(graph: FlatGraph, op: Op, dtype: str) -> Work:
    _, height, width, channels = graph.shape(op.outputs[0])
    pixels, taps = height * width, op.options.filterHeight * op.options.filterWidth
    vectors = sum(_parts(channels, dtype))
    passes = 1 + max(0, -(-(taps - 9) // 8))
    return Work(f"{op.name} {dtype}", (1, pixels, pixels * passes * vectors))


_SHAPED = ("CONCATENATION", "SPLIT", "AVERAGE_POOL_2D", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "ADD", "MUL", "SUB")
"""Operators on whose shapes the work of LiteRT's own kernels depends, too; that of others is by value."""

KINDS: Mapping[str, Callable[[FlatGraph, Op, str], Work | None]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    **dict.fromkeys(("ADD", "MUL", "SUB", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"), _binary),
    **dict.fromkeys(("LOGISTIC", "HARD_SWISH", "TANH", "GELU", "EXP", "ELU", "LEAKY_RELU", "ABS", "NEG"), _unary),
    **dict.fromkeys(("RELU", "RELU6", "RSQRT", "SQRT", "SQUARE", "QUANTIZE", "DEQUANTIZE", "SOFTMAX"), _unary),
    **dict.fromkeys(("MEAN", "SUM"), _mean),
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D"), _pool),
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), _slice),
    "CONCATENATION": _join,
    "SPLIT": _split,
    "PAD": _pad,
    "RESHAPE": _reshape,
}
"""The operators that the table of costs knows."""
