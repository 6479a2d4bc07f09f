"""What the outputs of classifiers are measured by: shares with intervals, signal-to-noise, cosine. Numpy only."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

_Z = 1.959963984540054  # of a 95 % interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A share of images with its 95 % Wilson interval, all fractions."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """What a model loses in accuracy against another on the same images, with its 95 % interval, all fractions."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputError:
    """How far one output of a model is from that of another, in decibels; None is no difference.

    Attributes:
        name: of the output.
        shape: of an image's, as in (14, 14, 40).
        snr_db: power of the reference over that of the difference, over all images.
        snr_median_db: of the median image.
        snr_low_db: of the image at the 5th percentile.
    """

    name: str
    shape: tuple[int, ...]
    snr_db: float | None
    snr_median_db: float | None
    snr_low_db: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How well a classifier knows one class.

    Attributes:
        name: of the class.
        count: images of it.
        precision: share of the images taken for it that are of it; None where none is taken for it.
        recall: share of its images that are taken for it, its top-1; None where it has no images.
        f1: harmonic mean of the two; None where neither has images.
    """

    name: str
    count: int
    precision: float | None
    recall: float | None
    f1: float | None


def signal_to_noise(reference: np.ndarray, outputs: np.ndarray) -> float | None:
    """Return 10 log10(sum reference² / sum (reference - outputs)²), or None for no difference or no signal at all.

    >>> signal_to_noise(np.array([3.0, 4.0]), np.array([3.0, 3.5]))
    20.0
    """
    signal = np.square(reference.astype(np.float64)).sum()
    noise = np.square(reference.astype(np.float64) - outputs).sum()
    return _ratio(signal, noise)


def _ratio(signal: float, noise: float) -> float | None:
    return float(10 * np.log10(signal / noise)) if signal > 0 and noise > 0 else None


def image_signal_to_noise(reference: np.ndarray, outputs: np.ndarray) -> tuple[float | None, float | None]:
    """Return the signal-to-noise ratio of the median image and of the image at the 5th percentile, in decibels.

    That of all images together is ruled by the few with the largest outputs. Images without a difference count as
    infinitely good; None where the image itself is one of them, or has no signal at all.

    Args:
        reference: (n, classes).
        outputs: the same.

    >>> image_signal_to_noise(np.array([[3.0, 4.0], [30, 40], [5, 0]]), np.array([[3.0, 3.5], [30, 30], [5, 0]]))
    (20.0, 13.979400086720377)
    """
    reference = reference.astype(np.float64)
    return _image_ratios(np.square(reference).sum(axis=1), np.square(reference - outputs).sum(axis=1))


def _image_ratios(signal: np.ndarray, noise: np.ndarray) -> tuple[float | None, float | None]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(noise > 0, 10 * np.log10(signal / noise), np.inf)
    median, low = (float(np.quantile(ratios, share, method="inverted_cdf")) for share in (0.5, 0.05))
    return (median if math.isfinite(median) else None), (low if math.isfinite(low) else None)


Outputs = Sequence[np.ndarray]
"""Every output of a model, each (n, …)."""


def output_errors(names: Sequence[str], batches: Iterable[tuple[Outputs, Outputs]]) -> tuple[OutputError, ...]:
    """Measure every output of a model by itself, given those of the reference and of the model, batch by batch.

    >>> (error,) = output_errors(["map"], [([np.array([[[3.0], [4.0]]])], [np.array([[[3.0], [3.5]]])])])
    >>> error.name, error.shape, error.snr_db
    ('map', (2, 1), 20.0)
    """
    powers: list[list[np.ndarray]] = [[] for _ in names]
    shapes: list[tuple[int, ...]] = [()] * len(names)
    for pair in batches:
        for place, (reference, outputs) in enumerate(zip(*pair, strict=True)):
            shapes[place] = reference.shape[1:]
            wanted, reached = (array.reshape(len(array), -1).astype(np.float64) for array in (reference, outputs))
            powers[place].append(np.stack([np.square(wanted).sum(axis=1), np.square(wanted - reached).sum(axis=1)]))
    errors = []
    for name, shape, rows in zip(names, shapes, powers, strict=True):
        signal, noise = np.concatenate(rows, axis=1)
        overall = _ratio(signal.sum(), noise.sum())
        median, low = _image_ratios(signal, noise)
        errors.append(OutputError(name=name, shape=shape, snr_db=overall, snr_median_db=median, snr_low_db=low))
    return tuple(errors)


def mebibytes(size: int | None) -> str:
    """Return a size in memory; a dash for one that is not known.

    >>> mebibytes(19922944), mebibytes(None)
    ('19.0', '–')
    """
    return "–" if size is None else f"{size / 2**20:.1f}"


def decibels(ratio: float | None) -> str:
    """Return a signal-to-noise ratio as people write it; None is no difference.

    >>> decibels(31.26), decibels(None)
    ('31.3 dB', 'exact')
    """
    return "exact" if ratio is None else f"{ratio:.1f} dB"


def same_class(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of images for which two outputs (n, classes) have the same largest class: the agreement.

    >>> same_class(np.array([[1, 2], [4, 3]]), np.array([[0, 9], [0, 9]]))
    0.5
    """
    return float((a.argmax(axis=1) == b.argmax(axis=1)).mean())


def in_top5(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Say for each image whether its label is among the five largest of its outputs (n, classes).

    >>> in_top5(np.array([[6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]]), np.array([4, 5])).tolist()
    [True, False]
    """
    # a stable sort, so that equal int8 outputs rank as argmax ranks them
    best5 = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
    return (best5 == labels[:, None]).any(axis=1)


def wilson(hits: int, count: int) -> Accuracy:
    """Return hits / count with its 95 % interval (Wilson 1927, without continuity correction).

    >>> interval = wilson(90, 100)
    >>> interval.value, round(interval.low, 4), round(interval.high, 4)
    (0.9, 0.8256, 0.9448)
    """
    z, share = _Z, hits / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return Accuracy(value=share, low=(centre - spread) / scale, high=(centre + spread) / scale)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the p-value of McNemar's exact test, two-sided.

    >>> mcnemar(1, 5)
    0.21875
    """
    total = only_a + only_b
    tail = sum(math.comb(total, k) for k in range(min(only_a, only_b) + 1)) / 2**total
    return min(1.0, 2 * tail)


def paired_loss(only_a: int, only_b: int, count: int) -> Loss:
    """Return what `b` loses against `a`, from the images that only one of them classifies rightly.

    The interval is Bonett and Price's (2012): of no difference at all, few images say little.

    >>> loss = paired_loss(0, 0, 98)
    >>> loss.value, round(loss.low, 4), round(loss.high, 4)
    (0.0, -0.0277, 0.0277)
    """
    a, b = (only_a + 1) / (count + 2), (only_b + 1) / (count + 2)
    spread = _Z * math.sqrt((a + b - (a - b) ** 2) / (count + 2))
    return Loss(value=(only_a - only_b) / count, low=a - b - spread, high=a - b + spread)


def count_confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Count the images of every (true class, predicted class).

    >>> count_confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def class_scores(confusion: np.ndarray, class_names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Return the score of every class, given the counts (true class, predicted class).

    >>> cat, _ = class_scores(np.array([[6, 2], [4, 8]]), ["cat", "dog"])
    >>> cat.count, cat.precision, cat.recall, round(cat.f1, 4)
    (8, 0.6, 0.75, 0.6667)
    """
    counts, taken, right = confusion.sum(axis=1).tolist(), confusion.sum(axis=0).tolist(), confusion.diagonal().tolist()
    return tuple(
        ClassScore(
            name=name,
            count=count,
            precision=hits / guesses if guesses else None,
            recall=hits / count if count else None,
            f1=2 * hits / (count + guesses) if count + guesses else None,
        )
        for name, count, guesses, hits in zip(class_names, counts, taken, right, strict=True)
    )


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean over images of the cosine between two outputs (n, classes); 0 where one is all zeros.

    >>> mean_cosine(np.array([[1, 0], [3, 4]]), np.array([[0, 1], [3, 4]]))
    0.5
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float((np.einsum("ij,ij->i", a, b) / np.where(norms > 0, norms, 1)).mean())
