"""Which channels of a graph must share one scale for its function to stay the same.

Between convolutions a network is linear, or positively homogeneous, in every channel: T' = T / s is absorbed by the
kernels that write and read T. What shares a scale: the inputs and output of an addition (a residual stream), of
padding, pooling, slices. A sigmoid or any other curve fixes the scale of what it reads.
"""

from collections.abc import Callable

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType

from mixnet_tf.litert.flatgraph import FlatGraph, Op


class ChannelClasses:
    """Union-find over the channels of all tensors; a class shares one scale.

    Attributes:
        fixed: channels whose scale must stay 1.
        positive: channels that a rectifier makes.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._first: dict[int, np.ndarray] = {}
        self.fixed: set[int] = set()
        self.positive: set[int] = set()

    def of(self, tensor: int, channels: int) -> np.ndarray:
        """Return the ids of a tensor's channels."""
        if tensor not in self._first:
            start = len(self._parent)
            self._parent.extend(range(start, start + channels))
            self._first[tensor] = np.arange(start, start + channels)
        return self._first[tensor]

    def root(self, i: int) -> int:
        """Return the id that stands for the class of a channel."""
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def tie(self, a: np.ndarray, b: np.ndarray) -> None:
        """Make one class of each channel of `a` and its counterpart in `b`."""
        for i, j in zip(a, b, strict=True):
            self._parent[self.root(j)] = self.root(i)

    def roots(self, ids: np.ndarray) -> np.ndarray:
        """Return the classes of many channels."""
        return np.array([self.root(i) for i in ids])


Ids = Callable[[int], np.ndarray]
"""Gives the ids (channels,) of a tensor's channels among all tensors'."""


def _fix(graph: FlatGraph, op: Op, ids: Ids, classes: ChannelClasses) -> None:
    """Any other operator: whatever it reads and writes keeps its scale."""
    for index in (*op.inputs, *op.outputs):
        if index >= 0 and not graph.is_constant(index):
            classes.fixed.update(ids(index))


def _weighted(graph: FlatGraph, op: Op, ids: Ids, classes: ChannelClasses) -> None:
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


def _activation(op: Op, ids: Ids, classes: ChannelClasses) -> None:
    kind = op.options.fusedActivationFunction
    if kind == ActivationFunctionType.RELU:
        classes.positive.update(ids(op.outputs[0]))
    elif kind != ActivationFunctionType.NONE:
        classes.fixed.update(ids(op.outputs[0]))


def _add(graph: FlatGraph, op: Op, ids: Ids, classes: ChannelClasses) -> None:
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


def _gate(graph: FlatGraph, op: Op, ids: Ids, classes: ChannelClasses) -> None:
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


def _concatenate(graph: FlatGraph, op: Op, ids: Ids, classes: ChannelClasses) -> None:
    """A concatenation of channels: each keeps its scale.

    Given: a (…, c), b (…, d) → CONCATENATION → y (…, c + d).
    Result: a / s, b / r → CONCATENATION → y / (s, r).
    """
    rank = len(graph.shape(op.outputs[0]))
    if op.options.axis not in (-1, rank - 1) or any(graph.is_constant(i) for i in op.inputs):
        _fix(graph, op, ids, classes)
        return
    classes.tie(np.concatenate([ids(i) for i in op.inputs]), ids(op.outputs[0]))


def _same(graph: FlatGraph, op: Op, ids: Ids, classes: ChannelClasses) -> None:
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


def _rectify(graph: FlatGraph, op: Op, ids: Ids, classes: ChannelClasses) -> None:
    """Every channel goes through by itself, and a positive factor with it.

    Given: x (…, c) → RELU → y (…, c).
    Result: x / s → RELU → y / s, for s > 0.
    """
    _same(graph, op, ids, classes)
    classes.positive.update(ids(op.outputs[0]))


def _slice(graph: FlatGraph, op: Op, ids: Ids, classes: ChannelClasses) -> None:
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


def _mean(graph: FlatGraph, op: Op, ids: Ids, classes: ChannelClasses) -> None:
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


def channel_classes(graph: FlatGraph) -> tuple[ChannelClasses, dict[int, np.ndarray]]:
    """Return the classes of a graph's channels, and the class (channels,) of those of every computed tensor."""
    classes = ChannelClasses()

    def ids(index: int) -> np.ndarray:
        return classes.of(index, (graph.shape(index) or (1,))[-1])

    for op in graph.ops:
        _RULES.get(op.name, _fix)(graph, op, ids, classes)
    for index in (*graph.inputs, *graph.outputs):
        classes.fixed.update(ids(index))
    computed = graph.float_tensors()
    return classes, {index: classes.roots(ids(index)) for index in computed}
