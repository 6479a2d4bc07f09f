"""Equalization: write the same function so that the channels of a tensor have equal power.

Between convolutions a network is linear, or positively homogeneous, in every channel: T' = T / s is absorbed by the
kernels that write and read T, and costs nothing. int8 has one scale a tensor, so a channel with a twentieth of the
values of the largest has four bits less; how trained weights spread a function over channels is an accident. Here s is
the 4-norm of a channel over real images (of the tensor where it is largest, if several share the scale): the fourth
root of the mean fourth power lies between the root mean square, with which the peaks of a sparse channel take the whole
range of its tensor (2.5 dB worse on a MixNet-S), and the largest value, which a single image decides.

What shares a scale: the inputs and output of an addition (a residual stream), of padding, pooling, slices. A sigmoid or
any other curve fixes the scale of what it reads.

After "Data-Free Quantization Through Weight Equalization and Bias Correction" (Nagel et al. 2019, arXiv:1906.04721),
with measured activations instead of weight ranges, and whole residual streams instead of pairs of layers.
"""

from collections.abc import Callable, Mapping

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from mixnet_tf.litert.flatgraph import FlatGraph, Op
from mixnet_tf.quantization.types import Extremes

_FLOOR = 1e-3
"""Smallest scale of a channel, as a share of the median of its tensor: a channel that never moved keeps finite
weights."""


class _Classes:
    """Union-find over the channels of all tensors; a class shares one scale."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._first: dict[int, np.ndarray] = {}
        self.fixed: set[int] = set()
        self.positive: set[int] = set()

    def of(self, tensor: int, channels: int) -> np.ndarray:
        if tensor not in self._first:
            start = len(self._parent)
            self._parent.extend(range(start, start + channels))
            self._first[tensor] = np.arange(start, start + channels)
        return self._first[tensor]

    def root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def tie(self, a: np.ndarray, b: np.ndarray) -> None:
        for i, j in zip(a, b, strict=True):
            self._parent[self.root(j)] = self.root(i)

    def roots(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self.root(i) for i in ids])


Ids = Callable[[int], np.ndarray]
"""Gives the ids (channels,) of a tensor's channels among all tensors'."""


def _fix(graph: FlatGraph, op: Op, ids: Ids, classes: _Classes) -> None:
    """Any other operator: whatever it reads and writes keeps its scale."""
    for index in (*op.inputs, *op.outputs):
        if index >= 0 and not graph.is_constant(index):
            classes.fixed.update(ids(index))


def _weighted(graph: FlatGraph, op: Op, ids: Ids, classes: _Classes) -> None:
    """A kernel absorbs any scale of its input and of its output.

    Given: x (…, i) → CONV_2D, kernel (o, kh, kw, i / groups), bias (o,) → y (…, o).
    Result: x / s → the same with kernel * s / r, bias / r → y / r: s (i,) and r (o,) are free of each other.
    """
    if not all(graph.is_constant(i) for i in op.inputs[1:] if i >= 0):
        _fix(graph, op, ids, classes)
        return
    channels = graph.shape(op.inputs[1])[-1]
    grouped = op.name == "CONV_2D" and channels and len(ids(op.inputs[0])) % channels == 0
    if not grouped and len(ids(op.inputs[0])) != channels:
        classes.fixed.update(ids(op.inputs[0]))
    _activation(op, ids, classes)


def _activation(op: Op, ids: Ids, classes: _Classes) -> None:
    kind = op.options.fusedActivationFunction
    if kind == ActivationFunctionType.RELU:
        classes.positive.update(ids(op.outputs[0]))
    elif kind != ActivationFunctionType.NONE:
        classes.fixed.update(ids(op.outputs[0]))


def _add(graph: FlatGraph, op: Op, ids: Ids, classes: _Classes) -> None:
    """An addition keeps one scale for a channel of both terms and of the sum.

    Given: a (…, c), b (…, c) → ADD → y (…, c).
    Result: a / s, b / s → ADD → y / s, with one s (c,).
    """
    a, b, out = *op.inputs, op.outputs[0]
    if graph.shape(a) != graph.shape(b) or graph.is_constant(a) or graph.is_constant(b):
        _fix(graph, op, ids, classes)
        return
    classes.tie(ids(a), ids(out))
    classes.tie(ids(b), ids(out))
    _activation(op, ids, classes)


def _gate(graph: FlatGraph, op: Op, ids: Ids, classes: _Classes) -> None:
    """A map times a gate of one value per channel: the map's scale goes through.

    Given: x (1, h, w, c), gate (1, 1, 1, c) → MUL → y (1, h, w, c).
    Result: x / s, gate → MUL → y / s; the gate, made by a sigmoid, keeps its scale.
    """
    sizes = [0 if graph.is_constant(i) else int(np.prod(graph.shape(i))) for i in op.inputs]
    if 0 in sizes or sizes[0] == sizes[1] or len(set(map(len, map(ids, (*op.inputs, *op.outputs))))) > 1:
        _fix(graph, op, ids, classes)
        return
    large, small = (op.inputs[i] for i in np.argsort(sizes)[::-1])
    classes.fixed.update(ids(small))
    classes.tie(ids(large), ids(op.outputs[0]))
    _activation(op, ids, classes)


def _concatenate(graph: FlatGraph, op: Op, ids: Ids, classes: _Classes) -> None:
    """A concatenation of channels: each keeps its scale.

    Given: a (…, c), b (…, d) → CONCATENATION → y (…, c + d).
    Result: a / s, b / r → CONCATENATION → y / (s, r).
    """
    rank = len(graph.shape(op.outputs[0]))
    if op.options.axis not in (-1, rank - 1) or any(graph.is_constant(i) for i in op.inputs):
        _fix(graph, op, ids, classes)
        return
    classes.tie(np.concatenate([ids(i) for i in op.inputs]), ids(op.outputs[0]))


def _same(graph: FlatGraph, op: Op, ids: Ids, classes: _Classes) -> None:
    """Every channel goes through by itself, linearly.

    Given: x (1, h, w, c) → PAD or AVERAGE_POOL_2D → y (1, h', w', c).
    Result: x / s → the same → y / s.
    """
    if len(ids(op.inputs[0])) != len(ids(op.outputs[0])):
        _fix(graph, op, ids, classes)
        return
    classes.tie(ids(op.inputs[0]), ids(op.outputs[0]))
    if hasattr(op.options, "fusedActivationFunction"):
        _activation(op, ids, classes)


def _rectify(graph: FlatGraph, op: Op, ids: Ids, classes: _Classes) -> None:
    """Every channel goes through by itself, and a positive factor with it.

    Given: x (…, c) → RELU → y (…, c).
    Result: x / s → RELU → y / s, for s > 0.
    """
    _same(graph, op, ids, classes)
    classes.positive.update(ids(op.outputs[0]))


def _slice(graph: FlatGraph, op: Op, ids: Ids, classes: _Classes) -> None:
    """Channels that are cut out keep their scale.

    Given: x (1, h, w, c) → SLICE from channel f → y (1, h, w, d).
    Result: x / s → SLICE → y / s[f : f + d].
    """
    source, result = ids(op.inputs[0]), ids(op.outputs[0])
    ranks = {len(graph.shape(op.inputs[0])), len(graph.shape(op.outputs[0])), *graph.shape(op.inputs[1])}
    strided = op.name == "STRIDED_SLICE"
    known = all(graph.is_constant(index) for index in op.inputs[1:])
    if not known or len(ranks) > 1 or (strided and graph.constant(op.inputs[3])[-1] != 1):
        _fix(graph, op, ids, classes)
        return
    begin = graph.constant(op.inputs[1])
    masked = strided and op.options.beginMask >> (len(begin) - 1) & 1
    start, _, _ = slice(None if masked else int(begin[-1]), None).indices(len(source))  # may count from the end
    classes.tie(source[start : start + len(result)], result)


def _mean(graph: FlatGraph, op: Op, ids: Ids, classes: _Classes) -> None:
    """A mean over anything but the channels is linear in each of them.

    Given: x (1, h, w, c) → MEAN over h, w → y (1, 1, 1, c).
    Result: x / s → MEAN → y / s.
    """
    axes = graph.constant(op.inputs[1]) if graph.is_constant(op.inputs[1]) else [-1]
    rank = len(graph.shape(op.inputs[0]))
    (_fix if {-1, rank - 1} & set(np.ravel(axes).tolist()) else _same)(graph, op, ids, classes)


_RULES = {
    "CONV_2D": _weighted,
    "DEPTHWISE_CONV_2D": _weighted,
    "FULLY_CONNECTED": _weighted,
    "ADD": _add,
    "MUL": _gate,
    "CONCATENATION": _concatenate,
    "PAD": _same,
    "AVERAGE_POOL_2D": _same,
    "MAX_POOL_2D": _rectify,
    "RELU": _rectify,
    "LEAKY_RELU": _rectify,
    "PRELU": _rectify,
    "MEAN": _mean,
    "SLICE": _slice,
    "STRIDED_SLICE": _slice,
}
"""How an operator ties the scales of its tensors; any other fixes them."""


def _classes(graph: FlatGraph) -> tuple[_Classes, dict[int, np.ndarray]]:
    classes = _Classes()

    def ids(index: int) -> np.ndarray:
        return classes.of(index, (graph.shape(index) or (1,))[-1])

    for op in graph.ops:
        _RULES.get(op.name, _fix)(graph, op, ids, classes)
    for index in (*graph.inputs, *graph.outputs):
        classes.fixed.update(ids(index))
    computed = graph.float_tensors()
    return classes, {index: classes.roots(ids(index)) for index in computed}


def scales(
    graph: FlatGraph, extremes: Mapping[int, Extremes], *, streams: bool = True, relu: bool = True
) -> dict[int, np.ndarray]:
    """Return the scale (channels,) by which every computed tensor may be divided to equalize its channels.

    Args:
        graph: float.
        extremes: of every computed tensor, by index.
        streams: scale the channels that no rectifier touches: residual streams and other linear maps.
        relu: scale the channels that go through a rectifier.

    Returns:
        Positive scales; 1 where another would change the function.
    """
    classes, roots = _classes(graph)
    largest: dict[int, float] = {}
    for index, channels in extremes.items():
        floor = _FLOOR * float(np.median(channels.norm))
        for root, norm in zip(roots[index], channels.norm, strict=True):
            largest[root] = max(largest.get(root, 0.0), norm, floor)
    fixed = {classes.root(i) for i in classes.fixed}
    positive = {classes.root(i) for i in classes.positive}

    def scale(root: int) -> float:
        if root in fixed or largest[root] == 0 or not (relu if root in positive else streams):
            return 1.0
        return largest[root]

    return {index: np.array([scale(root) for root in roots[index]]) for index in extremes}


def equalize(
    graph: FlatGraph, extremes: Mapping[int, Extremes], *, streams: bool = True, relu: bool = True
) -> tuple[FlatGraph, dict[int, Extremes]]:
    """Return an equalized copy of a graph, which computes the same up to rounding, and its extremes.

    Given (two channels, of which the second has a hundredth of the first's values):
        x (1, h, w, 3) → conv, kernel (2, 1, 1, 3) → t (1, h, w, 2) → conv, kernel (4, 1, 1, 2) → y (1, h, w, 4)

    Result (s holds the channels' norms):
        x (1, h, w, 3) → conv, kernel / s → t / s (1, h, w, 2) → conv, kernel * s → y (1, h, w, 4)

    Args:
        graph: float; not changed.
        extremes: of every computed tensor, by index.
        streams: see ``scales``.
        relu: see ``scales``.
    """
    scale = scales(graph, extremes, streams=streams, relu=relu)
    graph = graph.copy()
    for op in graph.ops:
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            _rescale(graph, op, scale)
    return graph, {index: _divided(channels, scale[index]) for index, channels in extremes.items()}


def _divided(channels: Extremes, scale: np.ndarray) -> Extremes:
    return Extremes(low=channels.low / scale, high=channels.high / scale, norm=channels.norm / scale)


def _rescale(graph: FlatGraph, op: Op, scale: Mapping[int, np.ndarray]) -> None:
    before, after = scale[op.inputs[0]], scale[op.outputs[0]]
    if (before == 1).all() and (after == 1).all():
        return
    kernel = graph.constant(op.inputs[1]).astype(np.float64)
    if op.name == "DEPTHWISE_CONV_2D":
        kernel = kernel * np.repeat(before, len(after) // len(before)) / after
    else:
        groups = len(before) // kernel.shape[-1]
        read = np.repeat(before.reshape(groups, -1), len(after) // groups, axis=0)
        kernel = kernel * read.reshape(len(after), *[1] * (kernel.ndim - 2), -1)
        kernel = kernel / after.reshape(-1, *[1] * (kernel.ndim - 1))
    graph.set_constant(op, 1, kernel)
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        graph.set_constant(op, 2, graph.constant(op.inputs[2]) / after)
