"""The names of a classifier's classes: from a list, a text file with one on each line, or ImageNet's."""

import functools
from collections.abc import Sequence
from pathlib import Path

from mixnet_tf.checks import shown
from mixnet_tf.errors import DataError, did_you_mean, printable

IMAGENET = "imagenet"
FILE_NAME = "labels.txt"
_LONGEST = 2**20  # bytes of a file of labels


def read_labels(source: Sequence[str] | str | Path, classes: int) -> tuple[str, ...]:
    """Return the labels of a classifier.

    Args:
        source: the labels themselves, a text file in UTF-8 with one on each line, or ``"imagenet"``.
        classes: how many there must be.

    Raises:
        DataError: no such file, one that is no text, another number of labels, or an empty one.

    Example:
        >>> read_labels("imagenet", 1000)[:2]
        ('tench', 'goldfish')
        >>> read_labels(["cat", "dog"], 3)
        Traceback (most recent call last):
        mixnet_tf.errors.DataError: labels: found 2, expected 3: one for each class of the model
    """
    named = isinstance(source, str | Path)
    where = f"labels in {printable(source)}" if named else "labels"
    labels = _from_name(source) if isinstance(source, str | Path) else tuple(source)
    if len(labels) != classes:
        raise DataError(f"{where}: found {len(labels)}, expected {classes}: one for each class of the model")
    for i, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip() or label.splitlines() != [label]:
            raise DataError(f"{where}: label {i} is {shown(label)}, expected a text of one line")
    return labels


def _from_name(source: str | Path) -> tuple[str, ...]:
    if source == IMAGENET:
        return tuple(name for _, name in imagenet_classes())
    path = Path(source)
    if not path.is_file():
        expected = f"a text file with a label on each line, or {IMAGENET!r}{did_you_mean(str(source), [IMAGENET])}"
        raise DataError(f"{printable(source)}: no such file; expected {expected}")
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:  # first: the cut may fall inside a character
            raise DataError(f"{printable(source)}: has more than {_LONGEST >> 20} MiB; expected a label on each line")
        text = content.decode("utf-8-sig")  # without the mark that Windows puts in front
    except UnicodeDecodeError:
        raise DataError(f"{printable(source)}: no text in UTF-8; expected a label on each line") from None
    return tuple(text.splitlines())


def labels_beside(path: str | Path, classes: int) -> tuple[str, ...] | None:
    """Return the labels in the ``labels.txt`` beside a model, as training leaves it; None where it has not that many.

    Args:
        path: the model's file.
        classes: how many the model has.
    """
    file = Path(path).with_name(FILE_NAME)
    try:
        return read_labels(file, classes) if file.is_file() else None
    except DataError:
        return None


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Return (WordNet id, name) of ImageNet's 1,000 classes.

    >>> imagenet_classes()[1]
    ('n01443537', 'goldfish')
    """
    text = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
    pairs = (line.partition(" ") for line in text.splitlines() if not line.startswith("#"))
    return tuple((wordnet_id, name) for wordnet_id, _, name in pairs)
