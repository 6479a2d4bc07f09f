"""Calibration: the range of every tensor over real images, in memory that does not grow with their number.

A few images drive late layers to fifty times their usual values. Minimum and maximum spend int8 on those; clipping what
is rare by value sacrifices such an image entirely. The method ``"error"`` weighs both: of 25 x 25 pairs of limits it
takes the one with the least sum over the images of

    (rounding error + OUTSIDE_WEIGHT * clipping error) / power of the tensor in this image,

both counted after the sigmoid or swish that reads the tensor, where one does: far below zero a swish is flat, and
clipping there is free.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph, Op
from mixnet_tf.litert.neighbours import readers
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.types import Extremes

OUTSIDE_WEIGHT = 48.0
"""Clipping hits some images hard and does not average out over layers as rounding does. With 6, a MixNet-S trained on
photographs has 1.8 dB less; one with rare images fifty times the usual has 0.2 dB more (validation images)."""

PERCENTILE = 0.01
"""Per cent of the values that the method ``"percentile"`` leaves outside, on each side."""

_BINS = 2048
_STEPS = 255
_SHARES = 2.0 ** (-np.arange(25) / 4)  # of the extremes: down to 1/64
_ONE = np.ones(1)
_SMALLEST, _LARGEST = 1e-30, 1e30  # beyond, float32's arithmetic overflows

Curve = Callable[[np.ndarray], np.ndarray]


def measure_extremes(graph: FlatGraph, images: Iterable[np.ndarray]) -> dict[int, Extremes]:
    """Return the extremes of every computed tensor over real images, by index.

    Args:
        graph: a float ``.tflite``.
        images: (1, height, width, channels), pixels or what the graph takes.

    Raises:
        DeployError: no image, a tensor that is not finite, or another shape than the file says.
    """
    model, tensors = _keeping_all(graph), graph.float_tensors()
    low: dict[int, np.ndarray] = {}
    high: dict[int, np.ndarray] = {}
    fourth: dict[int, np.ndarray] = {}
    count = 0
    for image in images:
        model.run(image)
        count += 1
        for i in tensors:
            value = model.value(i)
            if value.shape[-1:] != graph.shape(i)[-1:]:
                shapes = f"shape {value.shape} when it runs, but {graph.shape(i)} in the file"
                raise DeployError(f"{graph.where}: tensor {graph.name(i)!r} has {shapes}")
            value = value.reshape(-1, value.shape[-1]) if value.ndim else value.reshape(1, 1)
            least, most = value.min(axis=0), value.max(axis=0)
            largest = float(max(np.abs(least).max(), np.abs(most).max()))
            if not largest < _LARGEST:
                what = f"reaches {largest:.1e}" if np.isfinite(largest) else "is not finite"
                raise DeployError(f"tensor {graph.name(i)!r} {what} on calibration image {count}")
            low[i], high[i] = np.minimum(low.get(i, least), least), np.maximum(high.get(i, most), most)
            fourth[i] = fourth.get(i, 0.0) + np.square(np.square(value, dtype=np.float64)).mean(axis=0)
    if not count:
        raise DeployError("no calibration images; expected at least one, and 100 to 500 as a rule")
    return {
        i: Extremes(low=low[i] * 1.0, high=high[i] * 1.0, norm=_rounded((fourth[i] / count) ** 0.25)) for i in tensors
    }


def _keeping_all(graph: FlatGraph) -> LiteModel:
    """Open a graph on LiteRT's own kernels: the delegate hides the tensors between what it fuses."""
    return LiteModel(graph.content(), num_threads=2, kernels="builtin", keep_tensors=True)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Keep 24 bits, so that the order in which the images were summed leaves no trace."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2.0**24) / 2.0**24, exponent)


def constant_tensors(graph: FlatGraph, extremes: dict[int, Extremes]) -> list[str]:
    """Return the names of tensors that never changed: their layer is dead."""
    return [graph.name(i) for i, channels in extremes.items() if (channels.low == channels.high).all()]


def measure_ranges(
    graph: FlatGraph,
    extremes: Mapping[int, Extremes],
    images: Iterable[np.ndarray],
    method: str,
    scales: Sequence[Mapping[int, np.ndarray]] = ({},),
) -> list[dict[int, tuple[float, float]]]:
    """Return the range (low, high) of every computed tensor, by index, for each of the ways to scale the graph.

    Args:
        graph: a float ``.tflite``.
        extremes: of this graph, over the same images.
        images: (1, height, width, channels), pixels or what the graph takes; each is run once, whatever the ways.
        method: ``"minmax"``, ``"percentile"``, ``"mse"`` (least squared error over all values) or ``"error"``.
        scales: by which the channels of tensors are divided, by index; nothing for 1.
    """
    forms = [{i: channels.divided(scale.get(i, _ONE)) for i, channels in extremes.items()} for scale in scales]
    if method == "minmax":
        return [{i: (float(x.low.min()), float(x.high.max())) for i, x in form.items()} for form in forms]
    model, reading = _keeping_all(graph), readers(graph)
    histograms: dict[tuple[int, bytes], Histogram] = {}  # ways that scale a tensor alike share one
    for form, scale in zip(forms, scales, strict=True):
        for i, x in form.items():
            if (key := _key(i, scale)) not in histograms:
                curve = _curve(reading.get(i, []), i) if method == "error" else itself
                histograms[key] = Histogram(x.low.min(), x.high.max(), curve, scale.get(i, _ONE))
    for image in images:
        model.run(image)
        for (i, _), histogram in histograms.items():
            histogram.add(model.value(i))
    ranges = {key: _METHODS[method](histogram) for key, histogram in histograms.items()}
    return [{i: ranges[_key(i, scale)] for i in extremes} for scale in scales]


def _key(index: int, scale: Mapping[int, np.ndarray]) -> tuple[int, bytes]:
    return index, scale[index].tobytes() if index in scale else b""


def itself(x: np.ndarray) -> np.ndarray:
    """Return `x`."""
    return x


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


def swish(x: np.ndarray) -> np.ndarray:
    """Return x times its sigmoid."""
    return x * sigmoid(x)


def _curve(ops: list[Op], tensor: int) -> Curve:
    """Return the function through which alone a tensor is read."""
    sigmoids = [op for op in ops if op.name == "LOGISTIC"]
    if len(sigmoids) != 1:
        return itself
    others = [op for op in ops if op is not sigmoids[0]]
    if not others:
        return sigmoid
    gated = {tensor, sigmoids[0].outputs[0]}
    return swish if [(op.name, set(op.inputs)) for op in others] == [("MUL", gated)] else itself


class Histogram:
    """Counts of a tensor's values between its extremes, over all images and weighted by each image's inverse power.

    Args:
        low: smallest value, after division by `scale`.
        high: largest value, likewise.
        curve: through which the tensor is read.
        scale: by which the channels are divided.
    """

    def __init__(self, low: float, high: float, curve: Curve, scale: np.ndarray = _ONE):
        self._factor = None if (scale == 1).all() else (1 / scale).astype(np.float32)
        self._low, self._high = min(float(low), 0.0), max(float(high), 0.0)  # LiteRT's ranges contain zero
        self._width = max(self._high - self._low, _SMALLEST) / _BINS
        self._centres = self._low + self._width * (np.arange(_BINS) + 0.5)
        self._curve = curve
        self._squares = np.square(curve(self._centres))
        self._counts = np.zeros(_BINS, np.int64)
        self._weighted = np.zeros(_BINS)

    def add(self, value: np.ndarray) -> None:
        """Count the values of one image, not divided yet."""
        if self._factor is not None:
            value = value * self._factor
        bins = ((value.ravel() - np.float32(self._low)) * np.float32(1 / self._width)).astype(np.int32)
        counts = np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)
        self._counts += counts
        self._weighted += counts / max(float(counts @ self._squares), _SMALLEST)

    def error(self) -> tuple[float, float]:
        """Return the range (low, high) with the least error, every image weighted by its inverse power."""
        return self._least(self._weighted, OUTSIDE_WEIGHT)

    def mse(self) -> tuple[float, float]:
        """Return the range (low, high) with the least squared error over all values."""
        return self._least(self._counts, 1.0)

    def percentile(self) -> tuple[float, float]:
        """Return the range (low, high) without the outermost PERCENTILE on each side."""
        share = np.cumsum(self._counts) / self._counts.sum()
        first, last = np.searchsorted(share, [PERCENTILE / 100, 1 - PERCENTILE / 100])
        return min(self._centres[first] - self._width / 2, 0.0), max(self._centres[last] + self._width / 2, 0.0)

    def _least(self, counts: np.ndarray, outside: float) -> tuple[float, float]:
        curve, x, step = self._curve, self._centres[:, None], self._width
        lows, highs = self._low * _SHARES, self._high * _SHARES
        slopes = (curve(x + step) - curve(x - step)) / (2 * step)
        below = counts @ np.where(x < lows, np.square(curve(x) - curve(lows)), 0)
        above = counts @ np.where(x > highs, np.square(curve(x) - curve(highs)), 0)
        steps = (highs - lows[:, None]) / _STEPS
        cost = counts @ np.square(slopes) * np.square(steps) / 12 + outside * (below[:, None] + above)
        i, j = np.unravel_index(cost.argmin(), cost.shape)
        return float(lows[i]), float(highs[j])


_METHODS: Mapping[str, Callable[[Histogram], tuple[float, float]]] = {
    "error": Histogram.error,
    "mse": Histogram.mse,
    "percentile": Histogram.percentile,
}
