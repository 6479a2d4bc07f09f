"""Two models on the same images: how far apart their outputs are, and of classifiers, who is right where."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixnet_tf.checks import ImageSize
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.sources import Source, as_data
from mixnet_tf.evidence.classifier import Classifier, Sized, alike, check_same_classes, classifier_of, read_model
from mixnet_tf.evidence.evaluation import outputs_of
from mixnet_tf.evidence.features import FeatureComparison, compare_features, gives_features, open_features
from mixnet_tf.evidence.markdown import escaped
from mixnet_tf.metrics import (
    Accuracy,
    decibels,
    image_signal_to_noise,
    in_top5,
    mcnemar,
    mean_cosine,
    signal_to_noise,
    wilson,
)

if TYPE_CHECKING:  # two .tflite files do without Keras
    import keras


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
        agreement_low: lower end of its 95 % interval.
        agreement_high: upper end of it.
        measured: what the rest is of: ``"logits"``, ``"probabilities"`` where one model rounds them, or
            ``"outputs"`` where one does not tell.
        snr_db: power of the first one's outputs over that of the difference, in decibels; None for no difference.
            Images with large outputs rule it.
        snr_median_db: the same of one image, the median over the images; None for no difference.
        snr_low_db: the same, the 5th percentile.
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
    agreement_low: float
    agreement_high: float
    measured: str
    snr_db: float | None
    snr_median_db: float | None
    snr_low_db: float | None
    cosine: float


def compare(
    a: "str | Path | keras.Model",
    b: "str | Path | keras.Model",
    data: ImageData | Source,
    *,
    split: str = "test",
    image_size: ImageSize | None = None,
    input_formats: tuple[str | None, str | None] = (None, None),
) -> Comparison | FeatureComparison:
    """Compare two classifiers of the same classes, or two other models with the same outputs.

    Args:
        a: the reference: a ``.keras`` or ``.tflite`` file, a run's folder, or a Keras model.
        b: the other.
        data: see ``load_data``; all images of a pair or dataset count, whatever the split.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: pixels, for a model of any size: a side, or (height, width); default: the other model's, else the
            data set's, else 224.
        input_formats: what each takes for an image, one of INPUT_FORMATS, where it does not tell.

    Raises:
        MixNetError: a file that cannot be read, or that does not fit the data.

    Example:
        >>> compare("model.keras", "model_int8.tflite", "digits").agreement                      # doctest: +SKIP
        0.994
    """
    models = [(*read_model(model), name) for model, name in zip((a, b), input_formats, strict=True)]
    if all(gives_features(model) for model, _, _ in models):
        return _features(models, as_data(data, split=split).checked(split), split, image_size)
    classifiers = [classifier_of(*model) for model in models]
    check_same_classes(*classifiers)
    images = as_data(data, split=split, classes=classifiers[0].classes).checked(split)
    if _are_embeddings(classifiers, images):
        return _features(models, images, split, image_size)
    any_size = image_size if image_size is not None else _fixed_size(classifiers)
    (outputs_a, labels), (outputs_b, _) = (
        outputs_of(model, images, split, image_size=any_size if None in model.image_size else image_size)
        for model in classifiers
    )
    return compare_outputs(classifiers[0], classifiers[1], outputs_a, outputs_b, labels, split=split)


def _features(models: Sequence[Any], data: ImageData, split: str, image_size: ImageSize | None) -> FeatureComparison:
    first, second = (open_features(*model) for model in models)
    asked = image_size if image_size is not None else _fixed_size([first, second])
    return compare_features(first, second, data, split, asked)


def _are_embeddings(classifiers: Sequence[Classifier], data: ImageData) -> bool:
    """Say whether two models end in no scores, and give other numbers than the data has classes."""
    told = any(classifier.scores or classifier.labels for classifier in classifiers)
    return not told and all(classifier.classes != len(data.class_names) for classifier in classifiers)


def _fixed_size(classifiers: Sequence[Sized]) -> tuple[int, int] | None:
    """Return the first (height, width) that one of the models insists on."""
    for classifier in classifiers:
        height, width = classifier.image_size
        if height is not None and width is not None:
            return height, width
    return None


def compare_outputs(
    a: Classifier, b: Classifier, outputs_a: np.ndarray, outputs_b: np.ndarray, labels: np.ndarray, *, split: str
) -> Comparison:
    """Compare two models' outputs (n, classes), given the labels (n,)."""
    classes_a, classes_b = outputs_a.argmax(axis=1), outputs_b.argmax(axis=1)
    right_a, right_b = classes_a == labels, classes_b == labels
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    measured, alike_a, alike_b = alike(a, b, outputs_a, outputs_b)
    agreement = _share(classes_a == classes_b)
    median, low = image_signal_to_noise(alike_a, alike_b)
    return Comparison(
        a=a.path,
        b=b.path,
        split=split,
        count=len(labels),
        top1_a=_share(right_a),
        top1_b=_share(right_b),
        top5_a=_share(in_top5(outputs_a, labels)),
        top5_b=_share(in_top5(outputs_b, labels)),
        only_a_right=only_a,
        only_b_right=only_b,
        p_value=mcnemar(only_a, only_b),
        agreement=agreement.value,
        agreement_low=agreement.low,
        agreement_high=agreement.high,
        measured=measured,
        snr_db=signal_to_noise(alike_a, alike_b),
        snr_median_db=median,
        snr_low_db=low,
        cosine=mean_cosine(alike_a, alike_b),
    )


def _share(right: np.ndarray) -> Accuracy:
    return wilson(int(right.sum()), len(right))


def summary(comparison: Comparison | FeatureComparison) -> dict[str, Any]:
    """Return the numbers that say at a glance how far the second model is from the first."""
    if isinstance(comparison, FeatureComparison):
        return {"snr_db": {output.name: output.snr_db for output in comparison.outputs}}
    return {"top1": comparison.top1_b.value, "agreement": comparison.agreement, "snr_db": comparison.snr_db}


def shown_summary(numbers: Mapping[str, Any]) -> str:
    """Return them as Markdown."""
    if "top1" in numbers:
        return f"top-1 {numbers['top1']:.2%}, agreement {numbers['agreement']:.2%}"
    return ", ".join(f"{escaped(name)} {decibels(ratio)}" for name, ratio in numbers["snr_db"].items())
