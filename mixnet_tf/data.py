"""Image classification data: the handwritten digits of scikit-learn, image folders and .npz files, through tf.data.

What varies a training image depends on (seed, epoch, index of the image) alone, never on threads or on what ran
before, so a resumed run sees exactly what an uninterrupted one sees. Importing this module does not import TensorFlow.
"""

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mixnet_tf.errors import DataError, did_you_mean
from mixnet_tf.preprocessing import (
    DRAWS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    ImageSize,
    decode,
    evaluation_pixels,
    height_and_width,
    preprocess_input,
    read_image,
    training_pixels,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Augmentation",
    "ImageData",
    "Split",
    "calibration_images",
    "evaluation_dataset",
    "load_data",
    "preprocess_input",
    "read_image",
    "steps_per_epoch",
    "training_dataset",
]

SPLITS = ("train", "val", "test")
_ON_BAD_IMAGE = ("error", "skip")
_IGNORED_FILES = ("thumbs.db", "desktop.ini", "__macosx")
_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_GENTLE = Augmentation(min_area=0.7, flip=False)  # characters: mirrored or cut in half they mean something else
_TEST_SEED = 0  # of the digits: the test images stay the same whatever seed is asked for


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
        images: paths of image files, or a uint8 array (count, height, width, 3), RGB.
        labels: int32 array (count,), indices into the class names.
    """

    images: Sequence[str] | np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Split":
        """Return the images at `indices`, in that order."""
        images = self.images
        taken = images[indices] if isinstance(images, np.ndarray) else tuple(images[i] for i in indices)
        return Split(taken, self.labels[indices])

    def open(self, index: int) -> Image.Image:
        """Return one RGB image; DataError if its file cannot be read."""
        image = self.images[index]
        return Image.fromarray(image) if isinstance(image, np.ndarray) else decode(image)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set with the splits ``train``, ``val`` and ``test``.

    Attributes:
        name: ``digits``, or the name of the folder or file.
        class_names: in the order of the labels.
        splits: exactly train, val and test.
        image_size: the size the images have by nature, or None where it differs from image to image.
        crop_fraction: the part of the resized image that evaluation keeps (timm's ``crop_pct``).
        augmentation: what suits these images in training.
        bad_images: unreadable files found so far, path -> what is wrong. Reading fills it.
    """

    name: str
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    image_size: ImageSize | None = None
    crop_fraction: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    bad_images: dict[str, str] = field(default_factory=dict, repr=False)
    _checked: set[str] = field(default_factory=set, repr=False)


def load_data(source: str | Path, *, seed: int = 0) -> ImageData:
    """Find a data set; image files are listed here and read later.

    Args:
        source: ``"digits"`` (scikit-learn's 1,797 handwritten digits, enlarged from 8x8 to 32x32; no download);
            a folder ``{train,val,test}/<class>/*`` or ``<class>/*``;
            or a ``.npz`` file with ``x_train, y_train, x_test, y_test``.
        seed: of the images held out for the splits that `source` does not have: 10 % of train for val, and another
            10 % for test where both are missing. Where only test is missing, it is val.

    Raises:
        DataError: nothing usable there; names the file, folder or class.

    Example:
        >>> data = load_data("digits")
        >>> {name: len(split) for name, split in data.splits.items()}
        {'train': 1295, 'val': 143, 'test': 359}
    """
    if not isinstance(source, str | Path) or not str(source):
        raise DataError(f"data: found {source!r}, expected 'digits', a folder or a .npz file")
    _require_integer("seed", seed, 0)
    if str(source) == "digits":
        return _load_digits(seed)
    path = Path(source)
    if path.is_dir():
        return _load_folder(path, seed)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _load_npz(path, seed)
    if path.exists():
        raise DataError(f"{source}: not a data set; expected 'digits', a folder of images or a .npz file")
    raise DataError(f"{source}: no such folder or file{did_you_mean(source, ['digits'])}")


def _require_integer(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise DataError(f"{name}: found {value!r}, expected an integer from {low}")


def _load_digits(seed: int) -> ImageData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    large = [Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC).convert("RGB") for image in small]
    class_names = tuple(str(name) for name in digits.target_names)
    train, test = _hold_out(Split(np.stack(large), digits.target.astype(np.int32)), 0.2, class_names, _TEST_SEED)
    splits = _complete_splits({"train": train, "test": test}, class_names, seed)
    return ImageData("digits", class_names, splits, image_size=32, augmentation=_GENTLE)


def _complete_splits(splits: dict[str, Split], class_names: Sequence[str], seed: int) -> dict[str, Split]:
    """Return train, val and test, the missing ones held out of train."""
    splits = dict(splits)
    if "val" not in splits:
        fraction = 0.1
        if "test" not in splits:
            splits["train"], splits["test"] = _hold_out(splits["train"], fraction, class_names, seed)
            fraction /= 1 - fraction
        splits["train"], splits["val"] = _hold_out(splits["train"], fraction, class_names, seed)
    splits.setdefault("test", splits["val"])
    return {name: splits[name] for name in SPLITS}


def _hold_out(split: Split, fraction: float, class_names: Sequence[str], seed: int) -> tuple[Split, Split]:
    """Return (rest, held out): `fraction` of every class, at least one image."""
    random = np.random.default_rng(seed)
    held = np.zeros(len(split), bool)
    for label, name in enumerate(class_names):
        members = random.permutation(np.flatnonzero(split.labels == label))
        if len(members) < 2:
            raise DataError(f"class {name!r}: too few training images to hold some out for val and test")
        held[members[: max(1, round(fraction * len(members)))]] = True
    return split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))


def _load_folder(folder: Path, seed: int) -> ImageData:
    names = _list(folder, folders=True)
    if "train" not in names and set(names) & set(SPLITS):
        raise DataError(f"{folder}: has {', '.join(sorted(set(names) & set(SPLITS)))} but no train folder")
    roots = {name: folder / name for name in names} if "train" in names else {"train": folder}
    for name in roots:
        if name not in SPLITS:
            raise DataError(f"{folder / name}: beside train, expected only val and test{did_you_mean(name, SPLITS)}")
    class_names = tuple(_list(roots["train"], folders=True))
    if not class_names:
        raise DataError(f"{roots['train']}: no class folders; expected one folder of images for each class")
    for root in roots.values():
        _check_same_classes(class_names, root)
    _check_class_count(folder, class_names)
    splits = {name: _list_images(root, class_names) for name, root in roots.items()}
    splits = _complete_splits(splits, class_names, seed)
    return ImageData(folder.resolve().name, class_names, splits, crop_fraction=0.875)


def _list(folder: Path, *, folders: bool) -> list[str]:
    """Return the sorted names of the folders in `folder`, or of its files; hidden ones are ignored."""
    try:
        with os.scandir(folder) as entries:
            visible = [e for e in entries if not e.name.startswith(".") and e.name.lower() not in _IGNORED_FILES]
            return sorted(e.name for e in visible if e.is_dir() == folders)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}") from error


def _check_same_classes(class_names: Sequence[str], root: Path) -> None:
    found = set(_list(root, folders=True))
    for problem, names in (("lacks", set(class_names) - found), ("adds", found - set(class_names))):
        if names:
            raise DataError(f"{root}: {problem} {_some(names)}; expected the classes of train")


def _some(names: set[str]) -> str:
    shown = [repr(name) for name in sorted(names)[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _check_class_count(source: Path, class_names: Sequence[str]) -> None:
    if len(class_names) < 2:
        raise DataError(f"{source}: found only the class {class_names[0]!r}, expected at least 2 classes")


def _list_images(root: Path, class_names: Sequence[str]) -> Split:
    paths, labels = [], []
    for label, name in enumerate(class_names):
        folder = root / name
        if inner := _list(folder, folders=True):
            raise DataError(f"{folder / inner[0]}: a folder inside a class folder; expected image files only")
        files = _list(folder, folders=False)
        if not files:
            raise DataError(f"{folder}: empty class folder; expected images")
        paths += [str(folder / file) for file in files]
        labels += [label] * len(files)
    return Split(tuple(paths), np.array(labels, np.int32))


def _load_npz(path: Path, seed: int) -> ImageData:
    arrays = _read_npz(path)
    is_gray, images = _to_rgb(path, {name: arrays[name] for name in ("x_train", "x_test")})
    labels = {name: _read_labels(path, name, arrays[name], len(arrays[f"x{name[1:]}"])) for name in _NPZ_KEYS[1::2]}
    class_names = tuple(str(label) for label in range(int(labels["y_train"].max()) + 1))
    _check_class_count(path, class_names)
    if missing := set(range(len(class_names))) - set(labels["y_train"].tolist()):
        raise DataError(f"{path}: y_train has no {_some({str(label) for label in missing})}; expected labels 0..C-1")
    if labels["y_test"].max() >= len(class_names):
        raise DataError(f"{path}: y_test has {labels['y_test'].max()}, expected labels 0..{len(class_names) - 1}")
    splits = {name: Split(images[f"x_{name}"], labels[f"y_{name}"]) for name in ("train", "test")}
    height, width = images["x_train"].shape[1:3]
    return ImageData(
        path.stem,
        class_names,
        _complete_splits(splits, class_names, seed),
        image_size=height if height == width else (height, width),
        augmentation=_GENTLE if is_gray else Augmentation(),
    )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [key for key in _NPZ_KEYS if key not in file]:
                raise DataError(f"{path}: no {missing[0]}; expected {', '.join(_NPZ_KEYS)}, found {', '.join(file)}")
            return {key: file[key] for key in _NPZ_KEYS}
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        reason = "holds Python objects" if "allow_pickle" in str(error) else "damaged or no .npz"
        raise DataError(f"{path}: {reason}; expected a .npz file of plain arrays") from error


def _to_rgb(path: Path, arrays: dict[str, np.ndarray]) -> tuple[bool, dict[str, np.ndarray]]:
    """Return whether the images are gray, and uint8 arrays (count, height, width, 3)."""
    shapes = set()
    for name, array in arrays.items():
        if array.ndim == 3:
            arrays[name] = array = array[..., None]
        if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
            raise DataError(f"{path}: {name} has shape {array.shape}, expected (N, H, W), (N, H, W, 1) or (N, H, W, 3)")
        shapes.add(array.shape[1:])
    if len(shapes) > 1:
        raise DataError(f"{path}: images of x_train and x_test differ in shape: {' and '.join(map(str, shapes))}")
    is_fraction = all(array.dtype.kind == "f" and array.max() <= 1 for array in arrays.values())
    images = {name: _to_uint8(f"{path}: {name}", array, is_fraction) for name, array in arrays.items()}
    return shapes.pop()[-1] == 1, {
        name: np.repeat(a, 3, axis=-1) if a.shape[-1] == 1 else a for name, a in images.items()
    }


def _to_uint8(where: str, array: np.ndarray, is_fraction: bool) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf" or not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 255):
        raise DataError(
            f"{where}: {array.dtype} values, expected uint8 (or numbers) from 0 to 255, or floats from 0 to 1"
        )
    return np.round(array * 255.0 if is_fraction else array).astype(np.uint8)


def _read_labels(path: Path, name: str, labels: np.ndarray, count: int) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: {name} is {labels.dtype} of shape {labels.shape}, expected integers of shape (N,)")
    if len(labels) != count:
        raise DataError(f"{path}: {name} has {len(labels)} labels for {count} images")
    if labels.min() < 0 or labels.max() >= count * 1000:
        raise DataError(f"{path}: {name} has {labels.min()} to {labels.max()}, expected labels 0..C-1")
    return labels.astype(np.int32)


def _readable_split(data: ImageData, name: str, on_bad_image: str) -> Split:
    """Return a split whose files have all been decoded once; a bad one is an error or is left out and recorded."""
    _check_on_bad_image(on_bad_image)
    if name not in data.splits:
        raise DataError(f"split {name!r}: expected {', '.join(SPLITS)}{did_you_mean(name, SPLITS)}")
    split = data.splits[name]
    if isinstance(split.images, np.ndarray):
        return split
    if name not in data._checked:
        data.bad_images.update(_find_bad_images(split.images, name))
        data._checked.add(name)
    good = np.array([i for i, path in enumerate(split.images) if path not in data.bad_images], int)
    if len(good) == len(split):
        return split
    if on_bad_image == "error":
        bad = [data.bad_images[path] for path in split.images if path in data.bad_images]
        others = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(f"{bad[0]}{others}; skip bad images or remove them")
    kept = split.take(good)
    for label, class_name in enumerate(data.class_names):
        if label in split.labels and label not in kept.labels:
            raise DataError(f"{data.name}: no readable image of class {class_name!r} in {name}")
    return kept


def _check_on_bad_image(on_bad_image: str) -> None:
    if on_bad_image not in _ON_BAD_IMAGE:
        nearest = did_you_mean(on_bad_image, _ON_BAD_IMAGE)
        raise DataError(f"on_bad_image: found {on_bad_image!r}, expected error or skip{nearest}")


def _find_bad_images(paths: Sequence[str], split: str) -> dict[str, str]:
    def problem(path: str) -> str | None:
        try:
            decode(path)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = tqdm(
            pool.map(problem, paths), f"checking {split}", len(paths), unit="image", leave=False, disable=None
        )
        return {path: found for path, found in zip(paths, checked, strict=True) if found}


def steps_per_epoch(data: ImageData, *, batch_size: int, on_bad_image: str = "error") -> int:
    """Return the number of batches in every epoch of `training_dataset`; images that fill no batch are left out.

    >>> steps_per_epoch(load_data("digits"), batch_size=64)
    20
    """
    _require_integer("batch_size", batch_size, 1)
    count = len(_readable_split(data, "train", on_bad_image))
    return count // min(batch_size, count)


def training_dataset(
    data: ImageData,
    *,
    image_size: ImageSize,
    batch_size: int,
    seed: int,
    first_epoch: int,
    epochs: int,
    augmentation: Augmentation | None = None,
    on_bad_image: str = "error",
) -> Any:
    """Return the augmented training batches of the epochs `first_epoch` to ``epochs - 1`` as one dataset.

    Args:
        data: from `load_data`. Its files are all decoded once beforehand, so that a bad one is known now.
        image_size: of the batches.
        batch_size: every batch has as many images, or all of them where the split has fewer.
        seed: of order and augmentation.
        first_epoch: where a resumed run continues; epoch k is the same whatever the first one.
        epochs: the epoch after the last.
        augmentation: instead of the one that suits `data`.
        on_bad_image: ``"error"``, or ``"skip"`` to leave bad images out and record them in ``data.bad_images``.

    Returns:
        tf.data.Dataset of (images, labels): float32 (batch, height, width, 3) normalized, int32 (batch,). It has
        ``steps_per_epoch(...) * (epochs - first_epoch)`` batches.

    Raises:
        DataError: a bad image (with ``"error"``), or an argument out of range.
    """
    import tensorflow as tf

    height, width = height_and_width(image_size)
    for name, value, low in (("batch_size", batch_size, 1), ("seed", seed, 0), ("first_epoch", first_epoch, 0)):
        _require_integer(name, value, low)
    split = _readable_split(data, "train", on_bad_image)
    augmentation = augmentation or data.augmentation
    batch_size = min(batch_size, len(split))
    steps = len(split) // batch_size
    labels = tf.constant(split.labels)

    def plan_epoch(epoch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([seed, int(epoch)])
        order = random.permutation(len(split))
        return order, random.random((len(split), DRAWS), np.float32)[order]

    def read(index: np.ndarray, draws: np.ndarray) -> np.ndarray:
        return training_pixels(split.open(index), (height, width), augmentation, draws)

    def plan(epoch: Any) -> Any:
        order, draws = tf.numpy_function(plan_epoch, [epoch], [tf.int64, tf.float32])
        order, draws = tf.ensure_shape(order, [len(split)]), tf.ensure_shape(draws, [len(split), DRAWS])
        return tf.data.Dataset.from_tensor_slices((order, draws)).take(steps * batch_size)

    def load(index: Any, draws: Any) -> Any:
        image = tf.ensure_shape(tf.numpy_function(read, [index, draws], tf.uint8), [height, width, 3])
        return image, tf.gather(labels, index)

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(plan)
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size, drop_remainder=True).map(_normalize)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps * max(0, epochs - first_epoch)))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _normalize(images: Any, labels: Any) -> tuple[Any, Any]:
    return preprocess_input(images), labels


def evaluation_dataset(
    data: ImageData, split: str, *, image_size: ImageSize, batch_size: int, on_bad_image: str = "error"
) -> Any:
    """Return every image of a split once, in a fixed order, preprocessed as timm does for evaluation.

    Args:
        data: from `load_data`.
        split: ``"train"``, ``"val"`` or ``"test"``.
        image_size: of the batches.
        batch_size: of all batches but a smaller last one.
        on_bad_image: ``"error"``, or ``"skip"`` to leave bad images out and record them in ``data.bad_images``.

    Returns:
        tf.data.Dataset of (images, labels): float32 (batch, height, width, 3) normalized, int32 (batch,).

    Raises:
        DataError: a bad image (with ``"error"``), an unknown split, or an argument out of range.

    Example:
        >>> batches = evaluation_dataset(load_data("digits"), "test", image_size=32, batch_size=100)
        >>> [len(labels) for _, labels in batches]
        [100, 100, 100, 59]
    """
    import tensorflow as tf

    height, width = height_and_width(image_size)
    _require_integer("batch_size", batch_size, 1)
    chosen = _readable_split(data, split, on_bad_image)
    labels = tf.constant(chosen.labels)

    def read(index: np.ndarray) -> np.ndarray:
        return evaluation_pixels(chosen.open(index), (height, width), data.crop_fraction)

    def load(index: Any) -> Any:
        image = tf.numpy_function(read, [index], tf.uint8)
        return tf.ensure_shape(image, [height, width, 3]), tf.gather(labels, index)

    dataset = tf.data.Dataset.range(len(chosen)).map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size).map(_normalize)
    return dataset.prefetch(tf.data.AUTOTUNE)


def calibration_images(
    data: ImageData, *, image_size: ImageSize, count: int, seed: int = 0, on_bad_image: str = "error"
) -> Iterator[np.ndarray]:
    """Yield training images, preprocessed as for evaluation, to calibrate a quantizer with; the classes take turns.

    Args:
        data: from `load_data`.
        image_size: of the images.
        count: how many; fewer come where the split has fewer.
        seed: which ones.
        on_bad_image: ``"error"``, or ``"skip"`` to take another image and record the bad one in ``data.bad_images``.

    Yields:
        float32 arrays (1, height, width, 3), normalized.

    Raises:
        DataError: a bad image (with ``"error"``), no readable one, or an argument out of range.

    Example:
        >>> next(calibration_images(load_data("digits"), image_size=32, count=10)).shape
        (1, 32, 32, 3)
    """
    _require_integer("count", count, 1)
    _require_integer("seed", seed, 0)
    _check_on_bad_image(on_bad_image)
    size, split, taken = height_and_width(image_size), data.splits["train"], 0
    for index in _take_turns(split.labels, seed):
        try:
            pixels = evaluation_pixels(split.open(index), size, data.crop_fraction)
        except DataError as error:
            if on_bad_image == "error":
                raise
            data.bad_images[split.images[index]] = str(error)
            continue
        yield preprocess_input(pixels[None])
        taken += 1
        if taken == count:
            return
    if taken == 0:
        raise DataError(f"{data.name}: no readable image in train")


def _take_turns(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return all indices in an order in which any first ones are spread evenly over the labels."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    turns = np.zeros(len(labels), int)
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        turns[members] = np.arange(len(members))
    return shuffled[np.argsort(turns, kind="stable")]
