"""What a classifier makes of single pictures: labels and probabilities."""

import dataclasses
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mixnet_tf.checks import ImageSize, integer, reason, shown
from mixnet_tf.data.choices import IMAGE_SUFFIXES
from mixnet_tf.data.decoding import decode, upright_rgb
from mixnet_tf.data.labels import read_labels
from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.errors import DataError, MixNetError, printable
from mixnet_tf.evidence.classifier import fit_size, open_classifier
from mixnet_tf.evidence.figures import check_plot, new_grid, save_figure

if TYPE_CHECKING:  # a .tflite does without Keras
    import keras

TOP = 5
MOST_PLOTTED = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """A class that a picture may be of.

    Attributes:
        label: the name of the class; its number where the model has no names.
        index: its number.
        probability: 0 to 1.
    """

    label: str
    index: int
    probability: float


class Predictor:
    """A classifier of single pictures.

    A picture is resized and cropped as for evaluation: until it covers size / 0.875, then the centre, unless the file
    records another fraction.

    Args:
        model: a ``.tflite`` or ``.keras`` file, or a Keras model.
        image_size: pixels, for a model of any size: a side, or (height, width); default 224.
        labels: the names of the classes: a list, a text file with one on each line, or ``"imagenet"``; default: those
            in the ``.tflite``, or in the ``labels.txt`` beside the model.
        input_format: what the model takes for an image, one of INPUT_FORMATS, where it does not tell.

    Raises:
        MixNetError: a model that cannot be read, or labels that do not fit.

    Example:
        >>> predictor = Predictor("model_mobile.tflite")                                         # doctest: +SKIP
        >>> predictor("photo.jpg")[0]                                                            # doctest: +SKIP
        ('cardboard', 0.981)
    """

    def __init__(
        self,
        model: "str | Path | keras.Model",
        *,
        image_size: ImageSize | None = None,
        labels: Sequence[str] | str | Path | None = None,
        input_format: str | None = None,
    ):
        self._classifier = open_classifier(model, input_format)
        self.image_size = fit_size(self._classifier, None, image_size)
        given = self._classifier.labels if labels is None else read_labels(labels, self._classifier.classes)
        self.labels = given or tuple(str(i) for i in range(self._classifier.classes))

    def __call__(self, image: str | Path | np.ndarray | Image.Image, top: int = TOP) -> list[tuple[str, float]]:
        """Return the likeliest classes of a picture, best first: (label, probability).

        Args:
            image: a file, a Pillow image, or uint8 pixels (height, width, 3).
            top: how many; fewer where the model has fewer.

        Raises:
            MixNetError: a picture that cannot be read, or outputs that are no probabilities.
        """
        return [(row.label, row.probability) for row in self.predictions(image, top)]

    def predictions(self, image: str | Path | np.ndarray | Image.Image, top: int = TOP) -> list[Prediction]:
        """Return the same with the number of each class."""
        integer("top", top, 1)
        pixels = evaluation_pixels(_opened(image), self.image_size, self._classifier.crop_fraction)
        outputs = self._classifier.predict(pixels[None])
        if not np.isfinite(outputs).all():
            raise MixNetError(f"{self._classifier.path}: gives outputs that are not finite (NaN or infinity)")
        (likely,) = self._classifier.probabilities(outputs)
        best = np.argsort(-likely, kind="stable")[:top].tolist()
        return [Prediction(label=self.labels[i], index=i, probability=float(likely[i])) for i in best]


def _opened(image: Any) -> Image.Image:
    if isinstance(image, str | Path):
        return decode(image)
    if isinstance(image, Image.Image):
        try:
            return upright_rgb(image.copy())
        except Exception as error:  # a file behind it may be damaged
            raise DataError(f"image: not readable ({reason(error)})") from error
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3:
        return Image.fromarray(image)
    raise MixNetError(f"image: found {shown(image)}, expected a file, a Pillow image, or uint8 pixels (h, w, 3)")


def pictures(names: Sequence[str]) -> list[str]:
    """Return the files that names stand for: files, folders with all below them, and patterns such as ``*.jpg``.

    Raises:
        DataError: a name that stands for nothing.
    """
    paths: list[str] = []
    for name in names:
        if Path(name).is_dir():
            below = (path for path in Path(name).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
            files = sorted(str(path) for path in below if path.is_file() and not path.name.startswith("."))
        elif Path(name).exists() or not glob.has_magic(name):
            files = [name]  # what is no picture is told when it is read
        else:
            files = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - a pattern may begin anywhere
        if not files:
            raise DataError(f"{printable(name)}: no pictures there")
        paths += files
    return paths


def check_pictures_plot(path: Path | None, count: int, *, overwrite: bool) -> None:
    """Refuse a plot that cannot be drawn, before the work begins.

    Args:
        path: of the plot; None for none.
        count: of the pictures.
        overwrite: whether it may replace a file.
    """
    check_plot(path, overwrite=overwrite)
    if path is not None and count > MOST_PLOTTED:
        raise MixNetError(f"{path}: a plot shows {MOST_PLOTTED} pictures at most, found {count}")


def save_plot(rows: Sequence[tuple[str, Sequence[Prediction]]], path: Path) -> None:
    """Draw pictures with their likeliest classes below them.

    Args:
        rows: file and predictions of each picture.
        path: of the plot to write; its suffix says in which format.
    """
    columns = min(len(rows), 4)
    figure, places = new_grid(-(-len(rows) // columns), columns)
    for place, (name, predictions) in zip(places, rows, strict=False):
        place.imshow(decode(name, at_least=256))
        lines = [f"{row.label}  {row.probability:.1%}" for row in predictions]
        place.set_xlabel("\n".join(lines).replace("$", r"\$"))
        place.set_title(Path(name).name.replace("$", r"\$"), fontsize="small")
        place.set(xticks=[], yticks=[])
    for place in places[len(rows) :]:
        place.axis("off")
    save_figure(figure, path)
