"""Where images and labels come from: scikit-learn's handwritten digits, image folders, TFRecord shards, .npz files."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mixnet_tf import checks, npz
from mixnet_tf.checks import shown
from mixnet_tf.data.arrays import as_labels, with_channels
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.choices import CROP_FRACTION, IMAGE_SUFFIXES, ON_BAD_IMAGE, PIXEL_RANGES, SPLITS
from mixnet_tf.data.dataset import ImageData, Split, locked
from mixnet_tf.data.in_memory import EXPECTED, is_in_memory, to_split
from mixnet_tf.data.pixel_range import to_uint8_rgb
from mixnet_tf.data.records import find_shards, load_shards
from mixnet_tf.errors import ArgumentError, DataError, did_you_mean, missing_packages, printable

_IGNORED_NAMES = ("thumbs.db", "desktop.ini", "__macosx")  # and all that begin with a dot
_VERSION = re.compile(r"\d+\.\d+\.\d+")  # a folder of TensorFlow Datasets: pets/4.0.0
_LABEL_KEYS = ("y_train", "y_test")
_NPZ_KEYS = ("x_train", "x_test", *_LABEL_KEYS)
_GENTLE = Augmentation(min_area=0.7, flip=False)  # characters: mirrored or cut in half they mean something else
_DIGITS_TEST_SEED = 0  # their test images stay the same whatever seed is asked for


Source = Any
"""A name or path for `load_data`, a pair (images, labels), or a ``tf.data.Dataset`` of such pairs."""


def load_data(
    source: Source, *, seed: int = 0, on_bad_image: str = "error", pixel_range: str | None = None
) -> ImageData:
    """Find a data set; image files are listed here and read later.

    Args:
        source: ``"digits"`` (scikit-learn's 1,797 handwritten digits, enlarged from 8x8 to 32x32; no download);
            a folder ``{train,val,test}/<class>/*`` or ``<class>/*`` (hidden files are ignored);
            a folder of TFRecord shards, as TensorFlow Datasets writes them (see ``find_shards``, ``load_shards``);
            or a ``.npz`` file with ``x_train, y_train, x_test, y_test``: images (N, H, W), (N, H, W, 1) or
            (N, H, W, 3) of 0..255 or of fractions 0..1, labels 0..C-1 (N,), or one-hot (N, C);
            or such images and labels in memory: a pair (images, labels), or a ``tf.data.Dataset`` of such pairs.
        seed: of the images held out for the splits that `source` does not have: 10 % of train for val, and another
            10 % for test where both are missing. Where only test is missing, it is val.
        on_bad_image: whether an image file that cannot be read is an ``"error"``, or is to be left out (``"skip"``).
        pixel_range: ``"0..1"`` or ``"0..255"``: black to white in a ``.npz`` file whose numbers do not say for certain
            (see ``to_uint8_rgb``). What lies outside is clipped, up to a quarter of the range as resizing leaves it.

    Returns:
        Images of 0..255, RGB, and their labels.

    Raises:
        DataError: nothing usable there; names the file, folder or class.
        ArgumentError: another `seed`, `on_bad_image` or `pixel_range`, or a `pixel_range` for what is no ``.npz`` file.

    Example:
        >>> data = load_data("digits")
        >>> {name: len(split) for name, split in data.splits.items()}
        {'train': 1295, 'val': 143, 'test': 359}
    """
    if not is_in_memory(source) and (not isinstance(source, str | Path) or not str(source)):
        raise DataError(f"data: found {shown(source)}, expected 'digits', a folder, a .npz file or {EXPECTED}")
    checks.integer("seed", seed, 0)
    checks.one_of("on_bad_image", on_bad_image, ON_BAD_IMAGE)
    if pixel_range is not None:
        checks.one_of("pixel_range", pixel_range, PIXEL_RANGES)
    data = _load(source, seed, pixel_range)
    return dataclasses.replace(data, on_bad_image=on_bad_image, pixel_range=pixel_range)


def as_data(source: Source | ImageData, *, split: str | None = None, classes: int | None = None) -> ImageData:
    """Return the data set that is given, or that a source names.

    Args:
        source: an ImageData, or what `load_data` takes.
        split: where all images of a pair or dataset belong; None: held out as `load_data` does.
        classes: how many there are, for a pair or dataset with a `split`; default: as many as its labels say.

    Example:
        >>> pair = np.full((4, 8, 8, 3), 200, np.uint8), [0, 1, 1, 0]
        >>> len(as_data(pair, split="test", classes=10).splits["test"])
        4
    """
    if isinstance(source, ImageData):
        return source
    if split is None or not is_in_memory(source):
        return load_data(source)
    checks.one_of("split", split, SPLITS)
    images = to_split(source)
    largest = int(images.labels.max())
    if classes is not None and largest >= classes:
        raise DataError(f"data: found the label {largest}, expected 0 to {classes - 1}: the classes of the model")
    return _of_arrays(dict.fromkeys(SPLITS, images), (), tuple(map(str, range(classes or largest + 1))), "arrays")


def _load_arrays(source: Source, seed: int, pixel_range: str | None) -> ImageData:
    images = to_split(source, pixel_range)
    class_names = _number_classes("data", images.labels, images.labels)
    return _of_arrays(*_complete_splits({"train": images}, class_names, seed), class_names, "arrays")


def _load(source: Source, seed: int, pixel_range: str | None) -> ImageData:
    if is_in_memory(source):
        return _load_arrays(source, seed, pixel_range)
    path, where = Path(source), printable(source)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise DataError(f"{where}: {error.strerror or error}") from error
    if pixel_range is not None and (source == "digits" or is_folder):
        raise ArgumentError(f"pixel_range: found {pixel_range!r} for {where}, expected it for a .npz file only")
    if source == "digits":
        return _load_digits(seed)
    if is_folder:
        return _load_folder(path, seed)
    if is_file and path.suffix.lower() == ".npz":
        return _load_npz(path, seed, pixel_range)
    if is_file:
        raise DataError(
            f"{where}: not a data set; expected 'digits', a folder of images or TFRecord shards, or a .npz file"
        )
    raise DataError(f"{where}: no such folder or file{did_you_mean(str(source), ['digits'])}")


def _load_digits(seed: int) -> ImageData:
    with missing_packages():
        from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    large = [
        np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC).convert("RGB")) for image in small
    ]
    class_names = tuple(str(name) for name in digits.target_names)
    train, test = _hold_out(
        Split(locked(np.stack(large)), digits.target.astype(np.int32)), 0.2, class_names, _DIGITS_TEST_SEED
    )
    splits, held_out = _complete_splits({"train": train, "test": test}, class_names, seed)
    return ImageData("digits", class_names, splits, image_size=32, augmentation=_GENTLE, held_out=held_out)


def _complete_splits(
    splits: dict[str, Split], class_names: Sequence[str], seed: int
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Return train, val and test, and which of them are held out of train: val if missing, test if both are."""
    splits = dict(splits)
    held_out = () if "val" in splits else tuple(name for name in ("val", "test") if name not in splits)
    for i, name in enumerate(reversed(held_out)):  # each a tenth of what train held at first
        splits["train"], splits[name] = _hold_out(splits["train"], 1 / (10 - i), class_names, seed)
    splits.setdefault("test", splits["val"])
    return {name: splits[name] for name in SPLITS}, held_out


def _hold_out(split: Split, fraction: float, class_names: Sequence[str], seed: int) -> tuple[Split, Split]:
    """Return (rest, held out): `fraction` of every class, at least one image."""
    random = np.random.default_rng(seed)
    held = np.zeros(len(split), bool)
    for label, name in enumerate(class_names):
        members = random.permutation(np.flatnonzero(split.labels == label))
        if len(members) < 2:
            raise DataError(f"class {name!r}: too few training images to hold out one for each missing split")
        held[members[: max(1, round(fraction * len(members)))]] = True
    return split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))


def _load_folder(folder: Path, seed: int) -> ImageData:
    shards = find_shards(folder)
    listed, class_names = load_shards(folder, shards) if shards else _list_splits(folder)
    splits, held_out = _complete_splits(listed, class_names, seed)
    path = folder.resolve()
    name = printable(path.parent.name if shards and _VERSION.fullmatch(path.name) else path.name)
    return ImageData(name, class_names, splits, crop_fraction=CROP_FRACTION, held_out=held_out)


def _list_splits(folder: Path) -> tuple[dict[str, Split], tuple[str, ...]]:
    names = _list(folder, folders=True)
    if "train" not in names and set(names) & set(SPLITS):
        raise DataError(f"{printable(folder)}: has {_some(set(names) & set(SPLITS))} but no train folder; expected one")
    roots = {name: folder / name for name in names} if "train" in names else {"train": folder}
    for name in roots:
        if name not in SPLITS:
            where, similar = printable(folder / name), did_you_mean(name, SPLITS)
            raise DataError(f"{where}: beside train, expected only val and test{similar}")
    class_names, train = tuple(_list(roots["train"], folders=True)), printable(roots["train"])
    if not class_names:
        raise DataError(f"{train}: no class folders; expected one folder of images for each class")
    for name in class_names:
        if not name.isprintable():  # false for bytes that are not UTF-8, too: they could not stand in labels.txt
            raise DataError(f"{train}: class folder {name!r}: expected a name in printable UTF-8")
    for root in roots.values():
        _check_same_classes(class_names, root)
    _check_class_count(printable(folder), class_names)
    return {name: _list_images(root, class_names) for name, root in roots.items()}, class_names


def _list(folder: Path, *, folders: bool) -> list[str]:
    """Return the sorted names of the folders in `folder`, or of its files; hidden ones are ignored."""
    try:
        with os.scandir(folder) as entries:
            visible = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in _IGNORED_NAMES]
            return sorted(e.name for e in visible if _is_folder(e) == folders)
    except OSError as error:
        raise DataError(f"{printable(folder)}: {error.strerror or error}") from error


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: an image that cannot be read
        return False


def _check_same_classes(class_names: Sequence[str], root: Path) -> None:
    folders = set(_list(root, folders=True))
    for problem, names in (("lacks", set(class_names) - folders), ("adds", folders - set(class_names))):
        if names:
            raise DataError(f"{printable(root)}: {problem} {_some(names)}; expected the classes of train")


def _some(names: set[str]) -> str:
    shown = [checks.shown(name) for name in sorted(names)[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_class_count(where: str, class_names: Sequence[str]) -> None:
    if len(class_names) < 2:
        raise DataError(f"{where}: found only the class {class_names[0]!r}, expected at least 2 classes")


def _list_images(root: Path, class_names: Sequence[str]) -> Split:
    paths, labels = [], []
    for label, name in enumerate(class_names):
        folder, files, folders = root / name, _list(root / name, folders=False), _list(root / name, folders=True)
        images = [name for name in folders if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        if inner := sorted(set(folders) - set(images)):
            where = printable(folder / inner[0])
            raise DataError(f"{where}: a folder inside a class folder; expected image files only")
        files = sorted(files + images)
        if not files:
            raise DataError(f"{printable(folder)}: empty class folder; expected images")
        paths += [str(folder / file) for file in files]
        labels += [label] * len(files)
    return Split(tuple(paths), np.array(labels, np.int32))


def _load_npz(path: Path, seed: int, pixel_range: str | None) -> ImageData:
    arrays, where = _read_npz(path), printable(path)
    images = {name: with_channels(f"{where}: {name}", arrays[name]) for name in ("x_train", "x_test")}
    shape, test_shape = (array.shape[1:] for array in images.values())
    if shape != test_shape:
        raise DataError(f"{where}: x_test has images of shape {test_shape}, expected {shape} as in x_train")
    pixels = to_uint8_rgb(where, images, pixel_range)
    labels = {name: as_labels(f"{where}: {name}", arrays[name], len(images[f"x{name[1:]}"])) for name in _LABEL_KEYS}
    class_names = _number_classes(where, **labels)
    given = {name: Split(locked(pixels[f"x_{name}"]), locked(labels[f"y_{name}"])) for name in ("train", "test")}
    return _of_arrays(*_complete_splits(given, class_names, seed), class_names, printable(path.stem))


def _of_arrays(
    splits: Mapping[str, Split], held_out: tuple[str, ...], class_names: tuple[str, ...], name: str
) -> ImageData:
    pixels = np.asarray(splits["train"].images)
    height, width = pixels.shape[1:3]
    few = pixels[:100]
    return ImageData(
        name,
        class_names,
        splits,
        image_size=height if height == width else (height, width),
        augmentation=_GENTLE if (few == few[..., :1]).all() else Augmentation(),  # gray: characters, as a rule
        held_out=held_out,
    )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    where = printable(path)
    try:
        with npz.open_npz(path, _NPZ_KEYS) as arrays:
            if missing := [key for key in _NPZ_KEYS if key not in arrays.names]:
                names = _some(set(arrays.names)) or "none"
                raise DataError(f"{where}: lacks {missing[0]}; expected {', '.join(_NPZ_KEYS)}, found {names}")
            _check_memory(where, arrays.headers)
            return {key: arrays.read(key) for key in _NPZ_KEYS}
    except DataError:
        raise
    except Exception as error:  # damaged bytes raise nearly every kind
        reason = checks.reason(error)
        expected = f"expected plain arrays {', '.join(_NPZ_KEYS)}"
        raise DataError(f"{where}: not a readable .npz file ({reason}); {expected}") from error


def _check_memory(where: str, headers: Mapping[str, npz.Header]) -> None:
    """Refuse what would not fit: the arrays, their pixels as RGB bytes, and these once more while they are split."""
    count = sum(math.prod(headers[key].shape[:3]) for key in ("x_train", "x_test"))
    needed, memory = sum(header.nbytes for header in headers.values()) + 2 * 3 * count, npz.memory()
    if needed > memory:
        size = npz.size_text(memory)
        raise DataError(f"{where}: takes {npz.size_text(needed)} of memory, but this machine has {size}; cut it up")


def _number_classes(where: str, y_train: np.ndarray, y_test: np.ndarray) -> tuple[str, ...]:
    used = np.unique(y_train)
    if gaps := np.flatnonzero(used != np.arange(len(used))).tolist():
        raise DataError(f"{where}: y_train has the label {used[gaps[0]]}, expected {gaps[0]}: labels 0..C-1, all used")
    class_names = tuple(str(label) for label in used)
    _check_class_count(where, class_names)
    for label in (y_test.min(), y_test.max()):
        if not 0 <= label < len(class_names):
            raise DataError(f"{where}: y_test has the label {label}, expected 0..{len(class_names) - 1} as in y_train")
    return class_names
