"""Accuracy of a classifier."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixnet_tf.checks import ImageSize
from mixnet_tf.data.batches import evaluation_batches
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.labels import imagenet_classes
from mixnet_tf.data.sources import Source, as_data
from mixnet_tf.errors import MixNetError
from mixnet_tf.evidence.classifier import Classifier, fit_size, open_classifier
from mixnet_tf.metrics import in_top5, same_class, signal_to_noise
from mixnet_tf.progress.steps import bar

if TYPE_CHECKING:  # a .tflite does without Keras
    import keras


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What ``evaluate`` measures. Accuracies and agreement are fractions.

    Attributes:
        model: path of the file.
        split: the part of the data set.
        count: images.
        top1: share of images whose class has the largest output.
        top5: share of images whose class is among the five largest outputs.
        per_class: top-1 of every class that has images.
        reference: path of the model that the next two compare with; None where there is none (``with_distance``).
        agreement: share of images for which model and reference give the same top-1 class.
        snr_db: power of the reference's outputs over that of the difference, in decibels; None for no difference.
    """

    model: str
    split: str
    count: int
    top1: float
    top5: float
    per_class: dict[str, float]
    reference: str | None = None
    agreement: float | None = None
    snr_db: float | None = None


def outputs_of(
    classifier: Classifier, data: ImageData, split: str, *, image_size: ImageSize | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Run a model over a split, with progress.

    Args:
        classifier: the model.
        data: the images.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: pixels, for models of any size: a side, or (height, width); default: the data set's, else 224.

    Returns:
        Outputs, float (n, classes), and labels, int (n,).

    Raises:
        MixNetError: classes or sizes that do not fit, or outputs that are not finite.
    """
    check_classes(classifier, data)
    size = fit_size(classifier, data.image_size, image_size)
    batches = evaluation_batches(data, split, image_size=size, batch_size=32)
    outputs, labels = [], []
    count, name = len(data.splits[split]), Path(classifier.path).name
    with bar(f"evaluate {name}", count, "image") as shown:
        for images, batch_labels in batches:
            outputs.append(classifier.predict(images))
            labels.append(batch_labels)
            shown.update(len(batch_labels))
    all_outputs = np.concatenate(outputs)
    if not np.isfinite(all_outputs).all():
        raise MixNetError(f"{classifier.path}: gives outputs that are not finite (NaN or infinity)")
    return all_outputs, np.concatenate(labels)


def check_classes(classifier: Classifier, data: ImageData) -> None:
    """Refuse data whose classes are not those of the model's labels: every number would be wrong.

    Raises:
        MixNetError: names the first class that is another one.
    """
    if classifier.classes != len(data.class_names):
        raise MixNetError(
            f"{classifier.path}: has {classifier.classes} classes, but {data.name} has {len(data.class_names)}"
        )
    numbers = tuple(str(i) for i in range(classifier.classes))  # what classes are called that have no names
    if classifier.labels is None or numbers in (classifier.labels, data.class_names):
        return
    words = dict(imagenet_classes())  # a folder of ImageNet is named by WordNet's ids
    class_names = [words.get(name, name) for name in data.class_names]
    for i, (label, class_name) in enumerate(zip(classifier.labels, class_names, strict=True)):
        if label != class_name:
            raise MixNetError(
                f"{classifier.path}: class {i} is {label!r} in its labels, but {class_name!r} in {data.name}; "
                "expected the same classes in the same order"
            )


def score(model: str, split: str, outputs: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Evaluation:
    """Score outputs (n, classes) against labels (n,), indices into the class names."""
    correct = outputs.argmax(axis=1) == labels
    present = np.unique(labels)
    return Evaluation(
        model=model,
        split=split,
        count=len(labels),
        top1=float(correct.mean()),
        top5=float(in_top5(outputs, labels).mean()),
        per_class={class_names[i]: float(correct[labels == i].mean()) for i in present},
    )


def evaluate(
    model: "str | Path | keras.Model",
    data: ImageData | Source,
    *,
    split: str = "test",
    image_size: ImageSize | None = None,
    input_format: str | None = None,
) -> Evaluation:
    """Measure the accuracy of a classifier.

    Args:
        model: a ``.keras`` or ``.tflite`` file, a run's folder, or a Keras model.
        data: see ``load_data``; all images of a pair or dataset count, whatever the split.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: pixels, for a model of any size: a side, or (height, width); default: the data set's, else 224.
        input_format: what the model takes for an image, one of INPUT_FORMATS, where it does not tell.

    Raises:
        MixNetError: a file that cannot be read, that does not fit the data, or that takes nobody knows what.

    Example:
        >>> evaluate("runs/nano/model_int8.tflite", "digits").top1                               # doctest: +SKIP
        0.98
    """
    classifier = open_classifier(model, input_format)
    images = as_data(data, split=split, classes=classifier.classes).checked(split)
    outputs, labels = outputs_of(classifier, images, split, image_size=image_size)
    return score(classifier.path, split, outputs, labels, images.class_names)


def with_distance(evaluation: Evaluation, outputs: np.ndarray, reference: str, expected: np.ndarray) -> Evaluation:
    """Add to an evaluation how far its `outputs` (n, classes) are from the `expected` ones of the reference.

    Both are logits, or both are probabilities: see ``alike``.
    """
    return dataclasses.replace(
        evaluation,
        reference=reference,
        agreement=same_class(expected, outputs),
        snr_db=signal_to_noise(expected, outputs),
    )
