"""Images in TFRecord shards: as TensorFlow Datasets writes them, and TensorFlow's script for ImageNet.

The shards are read once, to find where in them the images lie; from then on an image is a part of a file
(``data/stored.py``), which any thread reads in any order, with Pillow, and without TensorFlow.
"""

import contextlib
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mixnet_tf import checks
from mixnet_tf.data import known_good
from mixnet_tf.data.choices import SPLITS
from mixnet_tf.data.dataset import Split, locked
from mixnet_tf.data.labels import read_labels
from mixnet_tf.data.stored import stored
from mixnet_tf.errors import DataError, MixNetError, printable
from mixnet_tf.files import cache_folder, whole_file
from mixnet_tf.progress.loading import load_tensorflow
from mixnet_tf.progress.steps import counted

IMAGE_FEATURES = ("image", "image/encoded")
LABEL_FEATURES = ("label", "image/class/label", "class")
TEXT_FEATURE = "image/class/text"
LABEL_FILES = ("label.labels.txt", "labels.txt")

_SHARD = re.compile(r".*\.tfrec(ords?)?(-\d+-of-\d+)?|.*-\d{5}-of-\d{5}", re.IGNORECASE)
_OF = re.compile(r"(?P<name>.*)-(?P<number>\d+)-of-(?P<count>\d+)")
_SPLIT = re.compile(r"(?<![a-z])(train|validation|valid|val|test)(?![a-z])", re.IGNORECASE)
_SHORT = {"validation": "val", "valid": "val"}
_HEADER, _FOOTER = struct.Struct("<QI"), 4  # length and its checksum; the content's checksum
_BATCH = 64  # records, read at once: a hand over to Python takes ten times as long as a record
_BUFFER = 2**20  # bytes
_LONGEST_TEXT = 200  # bytes of a class's name that are looked at


class Index(NamedTuple):
    """Where the images of a shard lie: offsets and lengths in bytes, labels, and the names of their classes or b""."""

    offsets: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    texts: np.ndarray


def find_shards(folder: Path) -> dict[str, list[Path]]:
    """Return the TFRecord shards of each split of a data set, sorted; empty where the folder has none.

    Args:
        folder: with shards that name their split (``pets-train.tfrecord-00000-of-00010``), or with folders ``train``,
            ``val`` and ``test`` of shards.

    Raises:
        DataError: a shard without a split, or one of those that its name counts is missing.
    """
    shards: dict[str, list[Path]] = {}
    for path in _shards_in(folder):
        words = {match.lower() for match in _SPLIT.findall(path.name)}
        if len(words) != 1:
            raise DataError(f"{printable(path)}: a TFRecord shard, expected train, val or test in its name")
        shards.setdefault(_split(words.pop()), []).append(path)
    for name in (*SPLITS, *_SHORT):
        shards.setdefault(_split(name), []).extend(_shards_in(folder / name))
    shards = {name: paths for name, paths in shards.items() if paths}
    for paths in shards.values():
        _check_whole(paths)
    if shards and "train" not in shards:
        raise DataError(f"{printable(folder)}: has TFRecord shards of {', '.join(shards)}, but none of train")
    return shards


def _split(word: str) -> str:
    return _SHORT.get(word, word)


def _shards_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:  # no such folder, as a rule: then it has none; the caller reports one that cannot be read
        return []
    names = sorted(entry.name for entry in visible if _SHARD.fullmatch(entry.name) and not entry.is_dir())
    if names and (folders := sorted(entry.name for entry in visible if entry.is_dir())):
        both = f"found TFRecord shards ({checks.shown(names[0])}) and folders ({checks.shown(folders[0])})"
        raise DataError(f"{printable(folder)}: {both}, expected one of the two")
    return [folder / name for name in names]


def _check_whole(paths: Sequence[Path]) -> None:
    counted_shards: dict[tuple[Path, str, int], set[int]] = {}
    for path in paths:
        if match := _OF.fullmatch(path.name):
            key = (path.parent, match["name"], int(match["count"]))
            counted_shards.setdefault(key, set()).add(int(match["number"]))
    for (folder, name, count), numbers in counted_shards.items():
        if len(numbers) != count:
            where = printable(folder / name)
            raise DataError(f"{where}: found {len(numbers)} TFRecord shards, expected the {count} that their names say")


def load_shards(folder: Path, shards: Mapping[str, Sequence[Path]]) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Find the images in TFRecord shards.

    An example in them has the bytes of an image file (`IMAGE_FEATURES`) and an integer (`LABEL_FEATURES`), and may have
    the name of its class (`TEXT_FEATURE`). Labels are 0..C-1, or 1..C as in TensorFlow's ImageNet, all of them used.

    Args:
        folder: of the data set; the names of the classes are a line each of a file there (`LABEL_FILES`), else those
            in the examples, else the labels.
        shards: of `find_shards`.

    Returns:
        The splits, and the names of the classes.

    Raises:
        DataError: a shard that is damaged or compressed, an example without image or label, labels with gaps.
    """
    paths = [path for split in shards.values() for path in split]
    indices = {path: index for path in paths if (index := _kept(path)) is not None}
    if unread := [path for path in paths if path not in indices]:
        load_tensorflow()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            read = counted(pool.map(_index, unread), "find images", len(unread), "shard")
            indices |= dict(zip(unread, read, strict=True))
    labels = {name: np.concatenate([indices[path].labels for path in split]) for name, split in shards.items()}
    first, count = _numbers(printable(folder), labels["train"])
    for name, values in labels.items():
        for label in (values.min(), values.max()):
            if not first <= label < first + count:
                expected = f"{first} to {first + count - 1} as in train"
                raise DataError(f"{printable(folder)}: {name} has the label {label}, expected {expected}")
    splits = {
        name: Split(
            [stored(path, *place) for path in split for place in _places(indices[path])],
            locked((labels[name] - first).astype(np.int32)),
        )
        for name, split in shards.items()
    }
    texts = np.concatenate([indices[path].texts for path in shards["train"]])
    return splits, _class_names(folder, labels["train"], texts, first, count)


def _places(index: Index) -> Iterator[tuple[int, int]]:
    return zip(index.offsets.tolist(), index.lengths.tolist(), strict=True)


def _numbers(where: str, labels: np.ndarray) -> tuple[int, int]:
    """Return the first label and how many there are."""
    used = np.unique(labels)
    first = int(used[0] == 1)
    for i, label in enumerate(used.tolist()):
        if label != first + i:
            raise DataError(f"{where}: train has the label {label}, expected {first + i}: no gaps, from 0 or from 1")
    if len(used) < 2:
        raise DataError(f"{where}: train has only the label {first}, expected at least 2 classes")
    return first, len(used)


def _class_names(folder: Path, labels: np.ndarray, texts: np.ndarray, first: int, count: int) -> tuple[str, ...]:
    for name in LABEL_FILES:
        if (folder / name).is_file():
            return read_labels(folder / name, count)
    numbers = range(first, first + count)
    named = {number: sorted({bytes(text) for text in np.unique(texts[labels == number])}) for number in numbers}
    if not any(any(names) for names in named.values()):
        return tuple(map(str, numbers))
    for number, names in named.items():
        if len(names) != 1:
            raise DataError(
                f"{printable(folder)}: the label {number} has the names {checks.shown(names)}, expected one"
            )
    return read_labels([names[0].decode(errors="replace") for names in named.values()], count)


def _kept(path: Path) -> Index | None:
    """Return the index of a shard where one was kept, and the shard has not changed since."""
    with contextlib.suppress(Exception), _place(_mark(path)).open("rb") as file:  # there is none, or it is damaged
        return _sound(Index(**np.load(file, allow_pickle=False)))
    return None


def _index(path: Path) -> Index:
    mark = _mark(path)  # before it is read: a change meanwhile is another mark
    index = _read(path)
    with contextlib.suppress(MixNetError, OSError), whole_file(_place(mark)) as part:
        np.savez(part, **index._asdict())
    return index


def _mark(path: Path) -> int:
    return int(known_good.marks([str(path)])[0])


def _place(mark: int) -> Path:
    return cache_folder() / "shards" / f"{mark:016x}.npz"


def _sound(index: Index) -> Index:
    if len({column.shape for column in index}) != 1 or any(column.dtype != np.int64 for column in index[:3]):
        raise ValueError("no index")
    return index


def _read(path: Path) -> Index:
    import tensorflow as tf

    if not path.is_file():
        raise DataError(f"{printable(path)}: no regular file, expected a TFRecord shard")
    rows, at = [], 0
    try:
        for batch in tf.data.TFRecordDataset(str(path), buffer_size=_BUFFER).batch(_BATCH).as_numpy_iterator():
            for record in batch:
                image, label, text = _parts(record)
                rows.append((at + _HEADER.size + record.find(image), len(image), label, text[:_LONGEST_TEXT]))
                at += _HEADER.size + len(record) + _FOOTER
    except _RecordError as error:
        raise DataError(f"{printable(path)}: record {len(rows)}: {error}") from error
    except tf.errors.DataLossError as error:
        place = re.search(r"record at (\d+)", str(error))
        raise DataError(
            f"{printable(path)}: damaged or compressed, from byte {place[1] if place else at} on"
        ) from error
    except tf.errors.OpError as error:
        raise DataError(f"{printable(path)}: cannot be read ({checks.reason(error)})") from error
    if not rows:
        raise DataError(f"{printable(path)}: an empty TFRecord shard, expected images")
    return Index(*(np.array(column, kind) for column, kind in zip(zip(*rows, strict=True), "qqqS", strict=True)))


class _RecordError(Exception):
    """What is wrong with an example."""


def _parts(record: bytes) -> tuple[bytes, int, bytes]:
    """Return the image file, the label and the class's name of an example."""
    features = _features(record)
    images = [name for name in IMAGE_FEATURES if features[name].bytes_list.value]
    labels = [name for name in LABEL_FEATURES if features[name].int64_list.value]
    for kind, names, known in (("image", images, IMAGE_FEATURES), ("label", labels, LABEL_FEATURES)):
        if len(names) != 1:
            present = ", ".join(map(checks.shown, sorted(name for name in features if features[name].ByteSize())))
            expected = f"one of {', '.join(known)}"
            raise _RecordError(f"found the features {present or 'none'}, expected as its {kind} {expected}")
    values = features[images[0]].bytes_list.value, features[labels[0]].int64_list.value
    for name, value in zip((*images, *labels), values, strict=True):
        if len(value) != 1:
            raise _RecordError(f"found {len(value)} values of {name}, expected one")
    (image,), (label,) = values
    if not image:
        raise _RecordError(f"{images[0]} is empty, expected the bytes of an image file")
    texts = features[TEXT_FEATURE].bytes_list.value
    return image, label, texts[0] if texts else b""


def _features(record: bytes) -> Any:
    """Return the features of an example by name; one that is missing is made, without values."""
    import tensorflow as tf

    try:
        return tf.train.Example.FromString(record).features.feature
    except Exception as error:  # of protobuf
        raise _RecordError("no tf.train.Example") from error
