"""Accuracy of a classifier, ``.keras`` or ``.tflite``."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mixnet_tf import checks
from mixnet_tf.checks import ImageSize
from mixnet_tf.data.batches import evaluation_dataset, lost_images
from mixnet_tf.data.choices import IMAGE_SIZE
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.input_format import known, prepare, settle
from mixnet_tf.errors import MixNetError
from mixnet_tf.metrics import in_top5, same_class, signal_to_noise
from mixnet_tf.progress.steps import bar


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


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A classifier opened for inference.

    Attributes:
        path: of its file.
        predict: uint8 pixels (n, height, width, 3) to float outputs (n, classes).
        image_size: (height, width) in pixels; None stands for any.
        classes: how many.
    """

    path: str
    predict: Callable[[np.ndarray], np.ndarray]
    image_size: tuple[int | None, int | None]
    classes: int


def open_predictor(path: str | Path, input_format: str | None = None) -> Predictor:
    """Open a ``.keras`` or ``.tflite`` classifier.

    Args:
        path: its file.
        input_format: what the model takes for an image, where it does not tell.

    Raises:
        MixNetError: another suffix, a file that cannot be read, a model that is no classifier of RGB images, or one of
            which nobody says what it takes.

    Example:
        >>> open_predictor("model_int8.tflite").image_size                                       # doctest: +SKIP
        (32, 32)
    """
    check_model(path)
    openers = {".keras": _open_keras, ".tflite": _open_lite}
    return openers[Path(path).suffix](Path(path), input_format)


def check_model(path: str | Path) -> None:
    """Refuse what is no model by its name, before anything is computed.

    Raises:
        MixNetError: another suffix than ``.keras`` or ``.tflite``, or no such file.
    """
    suffix = Path(path).suffix
    if suffix not in (".keras", ".tflite"):
        raise MixNetError(f"{path}: expected a .keras or a .tflite file")
    if not Path(path).is_file():
        raise MixNetError(f"{path}: no such file; expected a {suffix} model")


def _open_lite(path: Path, input_format: str | None) -> Predictor:
    from mixnet_tf.litert.flatgraph import FlatGraph
    from mixnet_tf.litert.front import lite_front
    from mixnet_tf.litert.runtime import LiteModel

    graph = FlatGraph.read(path)
    lite = LiteModel(graph)
    classes = _check_classifier(path, lite.input["shape"], lite.output["shape"])
    lite.input_format = known(settle(lite_front(graph), input_format, str(path)), str(path))
    return Predictor(str(path), lite, lite.image_size, classes)


def _open_keras(path: Path, input_format: str | None) -> Predictor:
    from mixnet_tf.deploy.front import front_of
    from mixnet_tf.saving import load_model

    model = load_model(path)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        counts = f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
        raise MixNetError(f"{path}: has {counts}, expected one of each")
    classes = _check_classifier(path, model.inputs[0].shape, model.outputs[0].shape)
    taken = known(settle(front_of(model), input_format, str(path)), str(path))

    def run(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(model(prepare(pixels, taken), training=False))

    return Predictor(str(path), run, model.input_shape[1:3], classes)


def _check_classifier(path: Path, inputs: Sequence[int | None], outputs: Sequence[int | None]) -> int:
    """Return the number of classes of a model from RGB images to one output for each class."""
    if len(inputs) != 4 or inputs[-1] != 3 or len(outputs) != 2 or not outputs[-1]:
        shapes = f"{_shape_text(inputs)} to {_shape_text(outputs)}"
        raise MixNetError(f"{path}: maps {shapes}, expected RGB images (batch, height, width, 3) to (batch, classes)")
    return int(outputs[-1])


def _shape_text(shape: Sequence[int | None]) -> str:
    return str(tuple(None if size is None else int(size) for size in shape))


@lost_images()
def predict(
    predictor: Predictor, data: ImageData, split: str, *, image_size: ImageSize | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Run a model over a split, with progress.

    Args:
        predictor: the model.
        data: the images.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: pixels, for models of any size: a side, or (height, width); default: the data set's, else 224.

    Returns:
        Outputs, float (n, classes), and labels, int (n,).

    Raises:
        MixNetError: classes or sizes that do not fit, or outputs that are not finite.
    """
    if predictor.classes != len(data.class_names):
        raise MixNetError(
            f"{predictor.path}: has {predictor.classes} classes, but {data.name} has {len(data.class_names)}"
        )
    _check_labels(predictor, data)
    batches = evaluation_dataset(data, split, image_size=_fit(predictor, data, image_size), batch_size=32)
    outputs, labels = [], []
    count, name = len(data.splits[split]), Path(predictor.path).name
    with bar(f"evaluate {name}", count, "image") as shown:
        for images, batch_labels in batches.as_numpy_iterator():
            outputs.append(predictor.predict(images))
            labels.append(batch_labels)
            shown.update(len(batch_labels))
    all_outputs = np.concatenate(outputs)
    if not np.isfinite(all_outputs).all():
        raise MixNetError(f"{predictor.path}: gives outputs that are not finite (NaN or infinity)")
    return all_outputs, np.concatenate(labels)


def _check_labels(predictor: Predictor, data: ImageData) -> None:
    """Refuse data whose classes are not those of the ``labels.txt`` beside the model: every number would be wrong."""
    path = Path(predictor.path).with_name("labels.txt")
    names = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    numbers = [str(i) for i in range(predictor.classes)]  # what classes are called that have no names
    if len(names) != predictor.classes or numbers in (names, list(data.class_names)):
        return
    for i, (label, class_name) in enumerate(zip(names, data.class_names, strict=True)):
        if label != class_name:
            raise MixNetError(
                f"{predictor.path}: class {i} is {label!r} in the labels.txt beside it, but {class_name!r} in "
                f"{data.name}; expected the same classes in the same order"
            )


def _fit(predictor: Predictor, data: ImageData, asked: ImageSize | None) -> tuple[int, int]:
    """Return the (height, width) to feed a model: its own, else what was asked for, the data set's, or 224."""
    wishes = (asked, data.image_size, IMAGE_SIZE)
    height, width = checks.image_size(next(size for size in wishes if size is not None))
    fixed = predictor.image_size
    if asked is not None and (fixed[0] not in (None, height) or fixed[1] not in (None, width)):
        raise MixNetError(f"{predictor.path}: takes images of {fixed[0]} x {fixed[1]}, not {height} x {width}")
    return fixed[0] or height, fixed[1] or width


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
    model: str | Path,
    data: ImageData,
    *,
    split: str = "test",
    image_size: ImageSize | None = None,
    input_format: str | None = None,
) -> Evaluation:
    """Measure the accuracy of a ``.keras`` or ``.tflite`` classifier.

    Args:
        model: the file.
        data: see ``load_data``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: pixels, for a model of any size: a side, or (height, width); default: the data set's, else 224.
        input_format: what the model takes for an image, one of INPUT_FORMATS, where it does not tell.

    Raises:
        MixNetError: a file that cannot be read, that does not fit the data, or that takes nobody knows what.

    Example:
        >>> evaluate("runs/nano/model_int8.tflite", load_data("digits")).top1                   # doctest: +SKIP
        0.98
    """
    predictor = open_predictor(model, input_format)
    outputs, labels = predict(predictor, data.checked(split), split, image_size=image_size)
    return score(str(model), split, outputs, labels, data.class_names)


def with_distance(evaluation: Evaluation, outputs: np.ndarray, reference: str, expected: np.ndarray) -> Evaluation:
    """Add to an evaluation how far its `outputs` (n, classes) are from the `expected` ones of the reference."""
    return dataclasses.replace(
        evaluation,
        reference=reference,
        agreement=same_class(expected, outputs),
        snr_db=signal_to_noise(expected, outputs),
    )
