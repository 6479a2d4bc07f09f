"""A classifier opened for inference: a ``.keras`` or ``.tflite`` file, or a Keras model. It takes pixels."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mixnet_tf import checks
from mixnet_tf.checks import ImageSize, shown
from mixnet_tf.data.choices import CROP_FRACTION, IMAGE_SIZE
from mixnet_tf.data.decoding import decode
from mixnet_tf.data.input_format import known, prepare, settle
from mixnet_tf.data.labels import labels_beside
from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.errors import MixNetError, missing_packages
from mixnet_tf.training.run_models import crop_beside, keras_or_lite, size_beside

if TYPE_CHECKING:  # a .tflite does without Keras
    import keras

    from mixnet_tf.litert.flatgraph import FlatGraph

_BATCH = 32
_SMALLEST = np.finfo(np.float32).tiny


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A classifier opened for inference.

    Attributes:
        path: of its file.
        predict: uint8 pixels (n, height, width, 3) to float outputs (n, classes).
        image_size: (height, width) in pixels; None stands for any.
        classes: how many.
        scores: what the outputs are, one of SCORES; None where the model does not tell.
        labels: the names of the classes; None where nobody tells.
        crop_fraction: the part of a resized picture that it wants to see.
        rounded: the outputs are probabilities in int8, so that the logits are lost.
        trained_size: (height, width) of the images that it was trained on, in pixels, as far as its run tells.
    """

    path: str
    predict: Callable[[np.ndarray], np.ndarray]
    image_size: tuple[int | None, int | None]
    classes: int
    scores: str | None = None
    labels: tuple[str, ...] | None = None
    crop_fraction: float = CROP_FRACTION
    rounded: bool = False
    trained_size: tuple[int, int] | None = None

    def logits(self, outputs: np.ndarray) -> np.ndarray:
        """Return the logits that outputs (n, classes) come from, those of a softmax but for a number added to all."""
        if self.scores not in ("softmax", "sigmoid"):
            return outputs
        likely = np.log(np.maximum(outputs, _SMALLEST, dtype=np.float64))
        if self.scores == "sigmoid":
            likely -= np.log(np.maximum(1 - outputs, _SMALLEST, dtype=np.float64))
        return likely

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return the probabilities that outputs (n, classes) stand for.

        Raises:
            MixNetError: the model does not tell what its outputs are, and they are no probabilities as they are.
        """
        sums = outputs.sum(axis=1)
        if self.classes == 1 and self.scores not in ("softmax", "sigmoid"):
            raise MixNetError(
                f"{self.path}: gives one number, which is no probability; expected a model with a sigmoid"
            )
        if self.scores in ("softmax", "sigmoid") or (np.abs(sums - 1).max() < 0.02 and outputs.min() >= 0):
            return outputs
        if self.scores is None:
            raise MixNetError(f"{self.path}: does not tell whether its outputs are logits or probabilities")
        likely = np.exp(outputs - outputs.max(axis=1, keepdims=True), dtype=np.float64)
        return likely / likely.sum(axis=1, keepdims=True)


def alike(
    a: Classifier, b: Classifier, outputs_a: np.ndarray, outputs_b: np.ndarray
) -> tuple[str, np.ndarray, np.ndarray]:
    """Bring the outputs (n, classes) of two classifiers to the same kind: logits, wherever they can be had.

    Returns:
        What they are now, ``"logits"``, ``"probabilities"`` or ``"outputs"``, and the two.
    """
    if None in (a.scores, b.scores):
        return "outputs", outputs_a, outputs_b
    if a.rounded or b.rounded:
        return "probabilities", a.probabilities(outputs_a), b.probabilities(outputs_b)
    logits = [a.logits(outputs_a), b.logits(outputs_b)]
    if "softmax" in (a.scores, b.scores):  # which forgets what is added to all
        logits = [values - values.mean(axis=1, keepdims=True) for values in logits]
    return "logits", logits[0], logits[1]


def check_same_classes(a: Classifier, b: Classifier) -> None:
    """Refuse two classifiers that name the same classes in another order: their outputs do not compare.

    Raises:
        MixNetError: a class of one is another class of the other.
    """
    places = {label: i for i, label in enumerate(b.labels or ())}
    for i, (label, same_place) in enumerate(zip(a.labels or (), b.labels or (), strict=False)):
        if label != same_place and label in places:  # a name may stand for two classes: ImageNet has two cranes
            raise MixNetError(
                f"{b.path}: its class {places[label]} is {label!r}, which is class {i} of {a.path}; expected the "
                "classes in the same order"
            )


@missing_packages()
def open_classifier(model: "str | Path | keras.Model", input_format: str | None = None) -> Classifier:
    """Open a classifier for inference.

    Args:
        model: a ``.keras`` or ``.tflite`` file, a run's folder, or a Keras model.
        input_format: what the model takes for an image, where it does not tell.

    Raises:
        MixNetError: another suffix, a file that cannot be read, a model that is no classifier of RGB images, or one of
            which nobody says what it takes.

    Example:
        >>> open_classifier("model_int8.tflite").image_size                                       # doctest: +SKIP
        (32, 32)
    """
    return classifier_of(*read_model(model), input_format)


@missing_packages()
def read_model(model: "str | Path | keras.Model") -> "tuple[keras.Model | FlatGraph, str]":
    """Return a Keras model, or the graph of a ``.tflite``, and its name for messages.

    Raises:
        MixNetError: another suffix, or a file that cannot be read.
    """
    if not isinstance(model, str | Path):
        return model, str(getattr(model, "name", "the model"))
    model = keras_or_lite(model)
    check_model(model)
    if model.suffix == ".tflite":
        from mixnet_tf.litert.flatgraph import FlatGraph

        return FlatGraph.read(model), str(model)
    from mixnet_tf.saving import load_model

    return load_model(model), str(model)


@missing_packages()
def classifier_of(model: "keras.Model | FlatGraph", where: str, input_format: str | None) -> Classifier:
    """Open what was read as a classifier; see ``open_classifier``."""
    from mixnet_tf.litert.flatgraph import FlatGraph

    return (_lite_classifier if isinstance(model, FlatGraph) else _classifier)(model, where, input_format)


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


def _lite_classifier(graph: Any, where: str, input_format: str | None) -> Classifier:
    from mixnet_tf.litert.description import labels_of
    from mixnet_tf.litert.front import lite_front
    from mixnet_tf.litert.metadata import crop_fraction
    from mixnet_tf.litert.runtime import LiteModel
    from mixnet_tf.litert.scores import is_rounded, scores_of

    lite = LiteModel(graph)
    classes = _check_classifier(where, lite.input["shape"], lite.output["shape"])
    lite.input_format = known(settle(lite_front(graph), input_format, where), where)
    labels = labels_of(graph) or labels_beside(where, classes)
    crop = crop_fraction(graph.model, graph.where)
    return Classifier(where, lite, lite.image_size, classes, scores_of(graph), labels, crop, rounded=is_rounded(graph))


def _classifier(model: Any, where: str, input_format: str | None) -> Classifier:
    import keras

    from mixnet_tf.deploy.ending import scores_of_keras
    from mixnet_tf.deploy.front import front_of

    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise MixNetError(f"model: found {shown(model)}, expected a .keras or .tflite file, or a built Keras model")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        counts = f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
        raise MixNetError(f"{where}: has {counts}, expected one of each")
    classes = _check_classifier(where, model.inputs[0].shape, model.outputs[0].shape)
    taken = known(settle(front_of(model), input_format, where), where)

    def run(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(model(prepare(pixels, taken), training=False))

    return Classifier(
        where,
        run,
        model.input_shape[1:3],
        classes,
        scores_of_keras(model),
        labels_beside(where, classes),
        crop_beside(where) or CROP_FRACTION,
        trained_size=size_beside(where),
    )


def _check_classifier(path: str, inputs: Sequence[int | None], outputs: Sequence[int | None]) -> int:
    """Return the number of classes of a model from RGB images to one output for each class."""
    if len(inputs) != 4 or inputs[-1] != 3 or len(outputs) != 2 or outputs[0] != inputs[0] or not outputs[-1]:
        shapes = f"{_shape_text(inputs)} to {_shape_text(outputs)}"
        raise MixNetError(f"{path}: maps {shapes}, expected RGB images (batch, height, width, 3) to (batch, classes)")
    return int(outputs[-1])


def _shape_text(shape: Sequence[int | None]) -> str:
    return str(tuple(None if size is None else int(size) for size in shape))


class Sized(Protocol):
    """What takes images of a size."""

    @property
    def path(self) -> str:
        """Of its file."""

    @property
    def image_size(self) -> tuple[int | None, int | None]:
        """(height, width) in pixels; None stands for any."""

    @property
    def trained_size(self) -> tuple[int, int] | None:
        """Those of the images that it was trained on, as far as its run tells."""


def fit_size(classifier: Sized, natural: ImageSize | None, asked: ImageSize | None) -> tuple[int, int]:
    """Return the (height, width) to feed a model: its own, else the one asked for, its run's, the images', or 224."""
    wishes = (asked, classifier.trained_size, natural, IMAGE_SIZE)
    height, width = checks.image_size(next(size for size in wishes if size is not None))
    fixed = classifier.image_size
    if asked is not None and (fixed[0] not in (None, height) or fixed[1] not in (None, width)):
        raise MixNetError(f"{classifier.path}: takes images of {fixed[0]} x {fixed[1]}, not {height} x {width}")
    return fixed[0] or height, fixed[1] or width


def predict(
    model: "str | Path | keras.Model",
    images: Any,
    *,
    image_size: ImageSize | None = None,
    input_format: str | None = None,
) -> np.ndarray:
    """Run a classifier on images.

    Args:
        model: a ``.keras`` or ``.tflite`` file, a run's folder, or a Keras model.
        images: the path of an image file, a list of paths, or uint8 pixels (n, height, width, 3) of any size. Files are
            resized and cropped as for evaluation; arrays are resized until they cover the size, and the centre is cut
            out.
        image_size: pixels, for a model of any size: a side, or (height, width); default: that of an array, else 224.
        input_format: what the model takes for an image, one of INPUT_FORMATS, where it does not tell.

    Returns:
        What the model gives, float (n, classes).

    Raises:
        MixNetError: a model or an image that cannot be read, or pixels of another type or shape.

    Example:
        >>> predict("model.keras", "cat.jpg").argmax(axis=1)                                     # doctest: +SKIP
        array([3])
    """
    classifier = open_classifier(model, input_format)
    natural = images.shape[1:3] if isinstance(images, np.ndarray) and images.ndim == 4 else None
    size = fit_size(classifier, natural, image_size)
    pixels = list(_pixels(images, size, classifier.crop_fraction))
    batches = [np.stack(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]
    if not batches:
        raise MixNetError("images: found none, expected at least one")
    return np.concatenate([classifier.predict(batch) for batch in batches])


def _pixels(images: Any, size: tuple[int, int], crop_fraction: float) -> Iterable[np.ndarray]:
    """Yield uint8 (height, width, 3) of every image."""
    from PIL import Image

    if isinstance(images, str | Path):
        images = [images]
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            kind = f"{images.dtype} of shape {images.shape}"
            raise MixNetError(f"images: found {kind}, expected uint8 pixels (n, height, width, 3)")
        return (evaluation_pixels(Image.fromarray(image), size, 1.0) for image in images)
    if not isinstance(images, list | tuple) or not all(isinstance(path, str | Path) for path in images):
        raise MixNetError(f"images: found {shown(images)}, expected paths, or uint8 pixels (n, height, width, 3)")
    return (evaluation_pixels(decode(str(path)), size, crop_fraction) for path in images)
