"""The pairs of classes that a classifier confuses most, and the pictures of it."""

import base64
import contextlib
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mixnet_tf.data.dataset import Split
from mixnet_tf.errors import DataError

_PAIRS = 10
_PICTURES, _OF_PAIR = 24, 4
_SIDE = 96  # pixels
_BYTES = 200_000  # of all data: URIs together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confusion:
    """A class that is taken for another.

    Attributes:
        true: name of the class.
        predicted: name of the class that it is taken for.
        count: images.
        share: of all images of the class.
    """

    true: str
    predicted: str
    count: int
    share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """A misclassified picture.

    Attributes:
        name: class and file name, or the number of the image where the split is an array.
        true: name of its class.
        predicted: name of the class that it is taken for.
        uri: the picture itself, small, as a ``data:`` URI.
    """

    name: str
    true: str
    predicted: str
    uri: str


def worst_confusions(confusion: np.ndarray, class_names: Sequence[str]) -> tuple[Confusion, ...]:
    """Return the pairs with most images, of equals the larger share first; ten at most.

    >>> worst, _ = worst_confusions(np.array([[6, 2], [4, 8]]), ["cat", "dog"])
    >>> worst.true, worst.predicted, worst.count, round(worst.share, 2)
    ('dog', 'cat', 4, 0.33)
    """
    totals = confusion.sum(axis=1)
    pairs = [(int(confusion[i, j]), i, j) for i, j in np.argwhere(confusion) if i != j]
    ranked = sorted(pairs, key=lambda pair: (-pair[0], int(totals[pair[1]])))
    return tuple(
        Confusion(true=class_names[i], predicted=class_names[j], count=count, share=count / int(totals[i]))
        for count, i, j in ranked[:_PAIRS]
    )


def mistaken_pictures(
    split: Split, outputs: np.ndarray, confusions: Sequence[Confusion], class_names: Sequence[str]
) -> tuple[Picture, ...]:
    """Return pictures of the worst confusions, those first that the classifier is surest of.

    Args:
        split: the images, in the order of the outputs.
        outputs: of the classifier, (n, classes).
        confusions: the pairs to show.
        class_names: in the order of the labels.

    Returns:
        Four of each pair at most, 24 and 200,000 bytes in all. A file that can no longer be read is left out.
    """
    pictures: list[Picture] = []
    predicted, left = outputs.argmax(axis=1), _BYTES
    surplus = outputs.max(axis=1) - outputs[np.arange(len(outputs)), split.labels]
    numbers = {name: i for i, name in enumerate(class_names)}
    for pair in confusions:
        members = np.flatnonzero((split.labels == numbers[pair.true]) & (predicted == numbers[pair.predicted]))
        surest = members[np.argsort(-surplus[members], kind="stable")]
        for index in surest[:_OF_PAIR].tolist():
            with contextlib.suppress(DataError):  # the report is worth more than a picture
                uri = data_uri(split.open(index, at_least=_SIDE))
                if len(pictures) < _PICTURES and len(uri) <= left:
                    left -= len(uri)
                    name = split.name(index)
                    name = name if isinstance(name, str) else f"image {name}"
                    pictures.append(Picture(name=name, true=pair.true, predicted=pair.predicted, uri=uri))
    return tuple(pictures)


def data_uri(image: Image.Image) -> str:
    """Return a picture of at most 96 pixels a side as a ``data:`` URI, in JPEG.

    >>> data_uri(Image.new("RGB", (300, 200)))[:28]
    'data:image/jpeg;base64,/9j/4'
    """
    small, content = image.copy(), io.BytesIO()
    small.thumbnail((_SIDE, _SIDE))
    small.save(content, "JPEG", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
