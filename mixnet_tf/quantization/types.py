"""What passes from one step of the quantization to the next, and what is known of the file in the end."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from mixnet_tf.data.calibration import Manifest
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.metrics import OutputError
from mixnet_tf.quantization.recipe import Recipe

Ranges = Mapping[int, tuple[float, float]]
"""Smallest and largest value of every computed tensor, by its index."""


class Images(Protocol):
    """Images (1, height, width, channels), uint8 pixels, or floats as the graph takes them, read again and again."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extremes:
    """Smallest and largest value and 4-norm of every channel of a tensor, each of shape (channels,)."""

    low: np.ndarray
    high: np.ndarray
    norm: np.ndarray

    def divided(self, scale: np.ndarray) -> "Extremes":
        """Return the extremes of the tensor divided by `scale` (channels,), which is positive."""
        return Extremes(low=self.low / scale, high=self.high / scale, norm=self.norm / scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A float graph, ready to be quantized.

    Attributes:
        reference: the float graph as it came.
        equalized: the same function with equalized channels.
        ranges: of the tensors of `equalized`.
        emphasis: of the equalization; None without one.
        equalization_error: largest change of the output that equalization left, as a share of the largest output; None
            without equalization.
        notes: what the user should know.
    """

    reference: FlatGraph
    equalized: FlatGraph
    ranges: Ranges
    emphasis: float | None
    equalization_error: float | None
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fallback:
    """What blocks in float32 bring and cost.

    Attributes:
        blocks: their names.
        images: on which the agreement with the float model was measured.
        agreement: share of them with the same top-1 class.
        size_ratio: of the file, to the one in int8 throughout; None before it is measured.
        latency_ratio: the same on this machine, one thread.
    """

    blocks: tuple[str, ...]
    images: int
    agreement: float
    size_ratio: float | None = None
    latency_ratio: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Int8Result:
    """What ``quantize`` makes.

    Attributes:
        graph: with int8 arithmetic, and the recipe's input and output types.
        throughout: the same with no block in float32; `graph` itself where there is none.
        calibrated: what it was made from.
        backend: which quantizer ran.
        fallback: which blocks stayed in float32, or None where the recipe leaves none.
    """

    graph: FlatGraph
    throughout: FlatGraph
    calibrated: Calibrated
    backend: str
    fallback: Fallback | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """What ``export`` made; also saved beside the file as ``F.quantization.json``.

    Attributes:
        path: the ``.tflite``.
        size_bytes: its size.
        sha256: of its content.
        recipe: how it was made.
        backend: which quantizer ran, or None.
        calibration: on which images, or None.
        emphasis: of the equalization, chosen by measurement; None without one.
        equalization_error: largest change of the float output that equalization left, as a share of the largest output.
        fallback: which blocks stayed in float32, or None where the recipe leaves none.
        outputs: how far each is from float32, before a softmax, on the first calibration images; empty in float.
        notes: what the user should know.
        skipped_images: unreadable files that were left out.
        versions: of the packages.
    """

    path: str
    size_bytes: int
    sha256: str
    recipe: Recipe
    backend: str | None
    calibration: Manifest | None
    emphasis: float | None
    equalization_error: float | None
    fallback: Fallback | None
    outputs: tuple[OutputError, ...]
    notes: tuple[str, ...]
    skipped_images: tuple[str, ...]
    versions: dict[str, str]
