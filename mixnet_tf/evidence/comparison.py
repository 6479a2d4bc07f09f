"""Two classifiers on the same images: who is right where, and how far apart their outputs are."""

import dataclasses
from pathlib import Path

import numpy as np

from mixnet_tf.data.batches import ImageData
from mixnet_tf.evidence.evaluation import open_predictor, predict_all
from mixnet_tf.metrics import Accuracy, in_top5, mcnemar, mean_cosine, signal_to_noise, wilson


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What ``compare`` measures.

    Attributes:
        a: path of the first model, the reference.
        b: path of the second.
        split: the part of the data set.
        count: images.
        top1_a: of the first model.
        top1_b: of the second.
        top5_a: of the first model: the label is among its five best classes.
        top5_b: of the second.
        only_a_right: images that only the first classifies rightly (McNemar's counts).
        only_b_right: images that only the second classifies rightly.
        p_value: of McNemar's exact test: how likely such unequal counts are between equally good models.
        agreement: share of images with the same top-1 class.
        snr_db: power of the first one's outputs over that of the difference, in decibels; None for no difference.
        cosine: mean cosine of the outputs of an image.
    """

    a: str
    b: str
    split: str
    count: int
    top1_a: Accuracy
    top1_b: Accuracy
    top5_a: Accuracy
    top5_b: Accuracy
    only_a_right: int
    only_b_right: int
    p_value: float
    agreement: float
    snr_db: float | None
    cosine: float


def compare(
    a: str | Path,
    b: str | Path,
    data: ImageData,
    *,
    split: str = "test",
    image_size: int | tuple[int, int] | None = None,
    on_bad_image: str = "error",
) -> Comparison:
    """Compare two ``.keras`` or ``.tflite`` classifiers of the same classes.

    Args:
        a: the reference.
        b: the other.
        data: see ``load_data``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: pixels, for a model of any size; default: the other model's, else the data set's own, else 224.
        on_bad_image: ``"error"`` or ``"skip"``.

    Raises:
        MixNetError: a file that cannot be read, or that does not fit the data.

    Example:
        >>> compare("model.keras", "model_int8.tflite", load_data("digits")).agreement           # doctest: +SKIP
        0.994
    """
    predictors = [open_predictor(path) for path in (a, b)]
    arguments = {"image_size": image_size, "on_bad_image": on_bad_image}
    (expected, labels), (found, _) = predict_all(predictors, data, split, **arguments)
    return compare_outputs(expected, found, labels, a=str(a), b=str(b), split=split)


def compare_outputs(
    expected: np.ndarray, found: np.ndarray, labels: np.ndarray, *, a: str, b: str, split: str
) -> Comparison:
    """Compare two models' outputs (n, classes), given the labels (n,)."""
    right_a, right_b = expected.argmax(axis=1) == labels, found.argmax(axis=1) == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return Comparison(
        a=a,
        b=b,
        split=split,
        count=len(labels),
        top1_a=wilson(int(right_a.sum()), len(labels)),
        top1_b=wilson(int(right_b.sum()), len(labels)),
        top5_a=wilson(int(in_top5(expected, labels).sum()), len(labels)),
        top5_b=wilson(int(in_top5(found, labels).sum()), len(labels)),
        only_a_right=only_a,
        only_b_right=only_b,
        p_value=mcnemar(only_a, only_b),
        agreement=float((expected.argmax(axis=1) == found.argmax(axis=1)).mean()),
        snr_db=signal_to_noise(expected, found),
        cosine=mean_cosine(expected, found),
    )
