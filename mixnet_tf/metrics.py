"""What the outputs of classifiers are measured by: shares with intervals, signal-to-noise, cosine. Numpy only."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """A share of images with its 95 % Wilson interval, all fractions."""

    value: float
    low: float
    high: float


def signal_to_noise(reference: np.ndarray, outputs: np.ndarray) -> float | None:
    """Return 10 log10(sum reference² / sum (reference - outputs)²), or None for no difference or no signal at all.

    >>> signal_to_noise(np.array([3.0, 4.0]), np.array([3.0, 3.5]))
    20.0
    """
    signal = np.square(reference.astype(np.float64)).sum()
    noise = np.square(reference.astype(np.float64) - outputs).sum()
    return float(10 * np.log10(signal / noise)) if signal > 0 and noise > 0 else None


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
    z, share = 1.959963984540054, hits / count
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


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean over images of the cosine between two outputs (n, classes); 0 where one is all zeros.

    >>> mean_cosine(np.array([[1, 0], [3, 4]]), np.array([[0, 1], [3, 4]]))
    0.5
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float((np.einsum("ij,ij->i", a, b) / np.where(norms > 0, norms, 1)).mean())
