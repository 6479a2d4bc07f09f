"""Images in TFRecord shards: as TensorFlow Datasets writes them, and TensorFlow's script for ImageNet.

The shards are read once, to find where in them the images lie; from then on an image is a part of a file
(``data/stored.py``), which any thread reads in any order, with Pillow, and without TensorFlow.
"""

import contextlib
import os
import re
import struct
import zlib
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
from mixnet_tf.distribution.processes import by_first, check_equal
from mixnet_tf.errors import DataError, MixNetError, printable
from mixnet_tf.files import cache_folder, remove_parts, whole_file
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
_BATCH = 64  # records: to hand one over to Python takes ten times as long as to read it
_BUFFER = 2**23  # bytes that a thread reads at once, as a rule
_THREADS = 8
_VERSION = 1  # of what is kept of a shard
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
    by_word = _by_name(folder) or _by_folder(folder)
    shards: dict[str, list[Path]] = {}
    for word, paths in by_word.items():
        name = _SHORT.get(word, word)
        if name in shards:
            raise DataError(f"{printable(folder)}: found TFRecord shards of {word} and {name}, expected one of the two")
        _check_whole(paths)
        shards[name] = paths
    if shards and "train" not in shards:
        raise DataError(f"{printable(folder)}: has TFRecord shards of {', '.join(shards)}, but none of train")
    return shards


def _by_name(folder: Path) -> dict[str, list[Path]]:
    """Return the shards of a folder by the split that they name."""
    shards: dict[str, list[Path]] = {}
    for path in _shards_in(folder):
        words = {match.lower() for match in _SPLIT.findall(path.name)}
        if len(words) != 1:
            raise DataError(f"{printable(path)}: a TFRecord shard, expected train, val or test in its name")
        shards.setdefault(words.pop(), []).append(path)
    return shards


def _by_folder(folder: Path) -> dict[str, list[Path]]:
    """Return the shards in the folders of the splits; without any in train, this is no data set of shards."""
    train = _shards_in(folder / "train") if (folder / "train").is_dir() else []
    if not train:
        return {}
    others = [word for word in (*SPLITS[1:], *_SHORT) if os.path.lexists(folder / word)]
    shards = {"train": train, **{word: _shards_in(folder / word) for word in others}}
    if empty := [word for word, paths in shards.items() if not paths]:
        raise DataError(f"{printable(folder / empty[0])}: holds no TFRecord shard, expected some as in train")
    return shards


def _shards_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
        names = sorted(entry.name for entry in visible if _SHARD.fullmatch(entry.name) and not entry.is_dir())
        folders = sorted(entry.name for entry in visible if names and entry.is_dir())
    except OSError as error:
        raise DataError(f"{printable(folder)}: {error.strerror or error}") from error
    if folders:
        both = f"found TFRecord shards ({checks.shown(names[0])}) and folders ({checks.shown(folders[0])})"
        raise DataError(f"{printable(folder)}: {both}, expected one of the two")
    return [folder / name for name in names]


def _check_whole(paths: Sequence[Path]) -> None:
    """Refuse shards that are not all there, and those of two sets, which may hold the same images."""
    sets: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        match = _OF.fullmatch(path.name)
        name, count = (match["name"], int(match["count"])) if match else (path.name, 1)
        sets.setdefault((name, count), set()).add(int(match["number"]) if match else 0)
    for (name, count), numbers in sets.items():
        if len(numbers) != count or max(numbers) >= count:
            some = f"found {sum(number < count for number in numbers)} of the {count} TFRecord shards"
            raise DataError(f"{printable(paths[0].parent / name)}: {some} that their names count")
    counts: dict[str, int] = {}
    for name, count in sets:
        if counts.setdefault(name, count) != count:
            where = printable(paths[0].parent / name)
            raise DataError(
                f"{where}: found sets of {counts[name]} and of {count} TFRecord shards, expected one of the two"
            )


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
    check_equal("TFRecord shards (a checksum of names and sizes)", zlib.crc32(repr(_sizes(paths)).encode()))
    indices = by_first(lambda: _indices(paths))
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


def _sizes(paths: Sequence[Path]) -> list[tuple[str, int]]:
    return [(path.name, path.stat().st_size if path.is_file() else -1) for path in paths]


def _indices(paths: Sequence[Path]) -> dict[Path, Index]:
    """Return the index of each shard; those that are not kept are read, and kept."""
    indices = {path: index for path in paths if (index := _kept(path)) is not None}
    if unread := [path for path in paths if path not in indices]:
        load_tensorflow()
        with contextlib.suppress(MixNetError, OSError):
            remove_parts(_folder())
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            read = counted(pool.map(_index, unread), "find images", len(unread), "shard")
            indices |= dict(zip(unread, read, strict=True))
    return indices


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
            return _unique(read_labels(folder / name, count), first)
    numbers = range(first, first + count)
    if not texts.any():
        return tuple(map(str, numbers))
    named: dict[int, set[bytes]] = {number: set() for number in numbers}
    for label, text in zip(labels.tolist(), texts.tolist(), strict=True):
        named[label].add(text)
    for number, names in named.items():
        if len(names) != 1:
            several = checks.shown(sorted(names))
            raise DataError(f"{printable(folder)}: the label {number} has the names {several}, expected one")
    return _unique(read_labels([name.decode(errors="replace") for (name,) in named.values()], count), first)


def _unique(names: Sequence[str], first: int) -> tuple[str, ...]:
    """Add the label to names that several classes have: ImageNet has two cranes, and a report goes by names."""
    return tuple(f"{name} ({label})" if names.count(name) > 1 else name for label, name in enumerate(names, first))


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
    if not mark:
        raise FileNotFoundError
    return _folder() / f"{mark:016x}.npz"


def _folder() -> Path:
    return cache_folder() / f"shards-{_VERSION}"


def _sound(index: Index) -> Index:
    if len({column.shape for column in index}) != 1 or any(column.dtype != np.int64 for column in index[:3]):
        raise ValueError("no index")
    return index


def _read(path: Path) -> Index:
    import tensorflow as tf

    if not path.is_file():
        raise DataError(f"{printable(path)}: no regular file, expected a TFRecord shard")
    offsets, longest = _walk(path)
    rows: list[tuple[int, int, int, bytes]] = []
    try:
        dataset = tf.data.TFRecordDataset(os.fsencode(path), buffer_size=_BUFFER)
        for batch in dataset.batch(min(_BATCH, 1 + _BUFFER // longest)).as_numpy_iterator():
            for record in batch:
                image, label, text = _parts(record)
                rows.append((offsets[len(rows)] + record.find(image), len(image), label, text[:_LONGEST_TEXT]))
    except _RecordError as error:
        raise DataError(f"{printable(path)}: record {len(rows)}: {error}") from error
    except tf.errors.DataLossError as error:
        place = re.search(r"record at (\d+)", str(error))
        raise _damaged(path, int(place[1]) if place else offsets[len(rows)]) from error
    except tf.errors.OpError as error:
        raise DataError(f"{printable(path)}: cannot be read ({checks.reason(error)})") from error
    return Index(*(np.array(column, kind) for column, kind in zip(zip(*rows, strict=True), "qqqS", strict=True)))


def _walk(path: Path) -> tuple[list[int], int]:
    """Return where each record's content begins, and the longest length. TensorFlow would believe any length."""
    offsets, longest, at, size = [], 0, 0, path.stat().st_size
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            header = file.read(_HEADER.size)
            length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else size
            offsets.append(at + _HEADER.size)
            at += _HEADER.size + length + _FOOTER
            if at > size:
                raise _damaged(path, offsets[-1] - _HEADER.size)
            longest = max(longest, length)
    if not offsets:
        raise DataError(f"{printable(path)}: an empty TFRecord shard, expected images")
    return offsets, longest


def _damaged(path: Path, at: int) -> DataError:
    return DataError(f"{printable(path)}: damaged or compressed, from byte {at} on")


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
