"""Accuracy of a model, ``.keras`` or ``.tflite``, and its distance from a reference."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mixnet_tf.data.batches import ImageData, evaluation_dataset
from mixnet_tf.errors import MixNetError
from mixnet_tf.metrics import in_top5, signal_to_noise


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
        reference: path of the reference model, or None.
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


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model opened for inference: float images (n, height, width, 3) to float outputs (n, classes)."""

    path: str
    predict: Callable[[np.ndarray], np.ndarray]
    image_size: tuple[int | None, int | None]
    classes: int


def open_predictor(path: str | Path) -> Predictor:
    """Open a ``.keras`` or ``.tflite`` classifier.

    Raises:
        MixNetError: another suffix, or a file that cannot be read.
    """
    path = Path(path)
    if path.suffix == ".tflite":
        from mixnet_tf.litert.runtime import LiteModel

        lite = LiteModel(path)
        _check_classifier(path, lite.input["shape"], lite.output["shape"])
        return Predictor(str(path), lite, lite.image_size, lite.classes)
    if path.suffix == ".keras":
        from mixnet_tf.saving import load_model

        model = load_model(path)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            counts = f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
            raise MixNetError(f"{path}: has {counts}, expected one of each")
        _check_classifier(path, model.inputs[0].shape, model.outputs[0].shape)
        return Predictor(
            str(path), lambda x: np.asarray(model(x, training=False)), model.input_shape[1:3], model.output_shape[-1]
        )
    raise MixNetError(f"{path}: expected a .keras or a .tflite file")


def _check_classifier(path: Path, inputs: Sequence[int | None], outputs: Sequence[int | None]) -> None:
    if len(inputs) != 4 or inputs[-1] != 3 or len(outputs) != 2:
        shapes = f"{tuple(map(_plain, inputs))} to {tuple(map(_plain, outputs))}"
        raise MixNetError(f"{path}: maps {shapes}, expected RGB images (batch, height, width, 3) to (batch, classes)")


def _plain(size: int | None) -> int | None:
    return None if size is None else int(size)


def predict(
    predictor: Predictor,
    data: ImageData,
    split: str,
    *,
    image_size: int | tuple[int, int] | None = None,
    on_bad_image: str = "error",
) -> tuple[np.ndarray, np.ndarray]:
    """Run a model over a split, with progress; return outputs (n, classes) and labels (n,).

    Args:
        predictor: the model.
        data: the images.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: for models of any size; default: the data set's own, else 224.
        on_bad_image: ``"error"`` or ``"skip"``.

    Raises:
        MixNetError: classes or sizes that do not fit, or outputs that are not finite.
    """
    from tqdm import tqdm

    if predictor.classes != len(data.class_names):
        raise MixNetError(
            f"{predictor.path}: has {predictor.classes} classes, but {data.name} has {len(data.class_names)}"
        )
    _check_labels(predictor, data)
    size = _image_size(predictor, data, image_size)
    batches = evaluation_dataset(data, split, image_size=size, batch_size=32, on_bad_image=on_bad_image)
    outputs, labels = [], []
    with tqdm(
        total=len(data.splits[split].labels), desc=Path(predictor.path).name, unit="image", leave=False, disable=None
    ) as bar:
        for images, batch_labels in batches.as_numpy_iterator():
            outputs.append(predictor.predict(images))
            labels.append(batch_labels)
            bar.update(len(batch_labels))
    outputs = np.concatenate(outputs)
    if not np.isfinite(outputs).all():
        raise MixNetError(f"{predictor.path}: gives outputs that are not finite (NaN or infinity)")
    return outputs, np.concatenate(labels)


def _check_labels(predictor: Predictor, data: ImageData) -> None:
    """Refuse data whose classes are not those of the ``labels.txt`` beside the model: every number would be wrong."""
    path, names = Path(predictor.path).with_name("labels.txt"), []
    if path.is_file():
        names = path.read_text(encoding="utf-8", errors="replace").splitlines()
    numbers = [str(i) for i in range(predictor.classes)]  # what classes are called that have no names
    if len(names) != predictor.classes or numbers in (names, list(data.class_names)):
        return
    for i, (own, other) in enumerate(zip(names, data.class_names, strict=True)):
        if own != other:
            raise MixNetError(
                f"{predictor.path}: class {i} is {own!r} in the labels.txt beside it, but {other!r} in {data.name}; "
                "expected the same classes in the same order"
            )


def _image_size(predictor: Predictor, data: ImageData, asked: int | tuple[int, int] | None) -> tuple[int, int]:
    wanted = asked or data.image_size or 224
    wanted = (wanted, wanted) if isinstance(wanted, int) else wanted
    fixed = predictor.image_size
    if asked and any(own not in (None, size) for own, size in zip(fixed, wanted, strict=True)):
        raise MixNetError(f"{predictor.path}: takes images of {fixed[0]} x {fixed[1]}, not {wanted[0]} x {wanted[1]}")
    return tuple(own or size for own, size in zip(fixed, wanted, strict=True))


def score(model: str, split: str, outputs: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> Evaluation:
    """Score outputs (n, classes) against labels (n,)."""
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
    model: str | Path,
    data: ImageData,
    *,
    split: str = "test",
    reference: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    on_bad_image: str = "error",
) -> Evaluation:
    """Measure the accuracy of a ``.keras`` or ``.tflite`` classifier, and its distance from a reference model.

    Args:
        model: the file to measure.
        data: see ``load_data``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        reference: another model of the same classes.
        image_size: pixels, for a model of any size; default: the other model's, else the data set's own, else 224.
        on_bad_image: ``"error"`` or ``"skip"``.

    Raises:
        MixNetError: a file that cannot be read, or that does not fit the data.

    Example:
        >>> evaluate("build/nano/model_int8.tflite", load_data("digits")).top1                   # doctest: +SKIP
        0.98
    """
    predictors = [open_predictor(path) for path in (model, reference) if path is not None]
    (outputs, labels), *others = predict_all(predictors, data, split, image_size=image_size, on_bad_image=on_bad_image)
    result = score(str(model), split, outputs, labels, data.class_names)
    return with_distance(result, outputs, str(reference), others[0][0]) if others else result


def predict_all(
    predictors: Sequence[Predictor], data: ImageData, split: str, *, image_size=None, on_bad_image: str = "error"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Run ``predict`` for several models; one of any image size takes that of the others."""
    fixed = [own.image_size for own in predictors if None not in own.image_size]
    free = image_size or (fixed[0] if fixed else None)
    return [
        predict(own, data, split, image_size=free if None in own.image_size else image_size, on_bad_image=on_bad_image)
        for own in predictors
    ]


def with_distance(result: Evaluation, outputs: np.ndarray, reference: str, expected: np.ndarray) -> Evaluation:
    """Add to `result` how far `outputs` are from the `expected` ones of the reference."""
    return dataclasses.replace(
        result,
        reference=reference,
        agreement=float((outputs.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        snr_db=signal_to_noise(expected, outputs),
    )
