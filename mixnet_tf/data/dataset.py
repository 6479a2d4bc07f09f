"""A data set of labelled images. Whether a bad image is an error or left out is one of its fields."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from mixnet_tf import checks
from mixnet_tf.data import known_good
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.choices import ON_BAD_IMAGE, SPLITS
from mixnet_tf.data.decoding import decode
from mixnet_tf.distribution.processes import merged, own_part
from mixnet_tf.errors import DataError, printable
from mixnet_tf.progress.steps import bar

_PIECE = 2**14  # images; the threads of a pool are told of so many at once


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images and their labels, read-only: what is not read-only already is copied.

    Attributes:
        images: paths of image files, or of what is ``stored`` in larger ones, or a uint8 array (count, height, width,
            3), RGB.
        labels: int32 array (count,), indices into the class names.
        listed: what this split was before its bad images were left out, or None where it is whole.
    """

    images: Sequence[str] | np.ndarray
    labels: np.ndarray
    listed: "Split | None" = None

    def __post_init__(self) -> None:
        is_array = isinstance(self.images, np.ndarray)
        object.__setattr__(self, "images", _read_only(self.images) if is_array else tuple(self.images))
        object.__setattr__(self, "labels", _read_only(self.labels))

    def __reduce__(self) -> tuple[Any, ...]:
        return Split, (self.images, self.labels, self.listed)  # pickled arrays come back writable

    def __repr__(self) -> str:
        return f"<Split of {len(self)} images>"

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Split":
        """Return the images at `indices`, in that order."""
        images, indices = self.images, np.asarray(indices, int)
        taken = locked(images[indices]) if isinstance(images, np.ndarray) else tuple(images[i] for i in indices)
        return Split(taken, locked(self.labels[indices]))

    def name(self, index: int) -> str | int:
        """Return folder and file name of an image, as a rule its class, or its index where the split is an array."""
        image = self.images[index]
        return "/".join(Path(image).parts[-2:]) if isinstance(image, str) else index

    def open(self, index: int, *, at_least: int | None = None) -> Image.Image:
        """Return one RGB image as `decode` does, from its file or from the array."""
        return open_image(self.images[index], at_least=at_least)


def open_image(image: str | np.ndarray, *, at_least: int | None = None) -> Image.Image:
    """Return one of a split's images, in RGB: from its file as `decode` does, or of its pixels."""
    return decode(image, at_least=at_least) if isinstance(image, str) else Image.fromarray(image)


def locked(array: np.ndarray) -> np.ndarray:
    """Return an array that nobody else holds, made read-only: a `Split` takes it without a copy."""
    array.flags.writeable = False
    return array


def _read_only(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return locked(array.copy()) if array.flags.writeable else array


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ImageData:
    """A data set with the splits ``train``, ``val`` and ``test``. Nothing changes it: `checked` returns another.

    Attributes:
        name: ``digits``, or the name of the folder or file.
        class_names: in the order of the labels.
        splits: exactly train, val and test.
        image_size: the size the images have by nature, or None where it differs from image to image.
        crop_fraction: the part of the resized image that evaluation keeps (timm's ``crop_pct``).
        augmentation: what suits these images in training.
        held_out: the splits that the source does not have: chosen by seed from its training images.
        on_bad_image: what an image file that cannot be read is: an ``"error"``, or something to ``"skip"``.
        pixel_range: what the user said about the range of an ``.npz`` file, or None.
        bad_images: the files that were skipped, path -> what is wrong.
        checked_splits: the splits whose files have all been decoded once; their bad images are left out.
    """

    name: str
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    image_size: checks.ImageSize | None = None
    crop_fraction: float = 1.0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    held_out: tuple[str, ...] = ()
    on_bad_image: str = "error"
    pixel_range: str | None = None
    bad_images: Mapping[str, str] = dataclasses.field(default_factory=dict)
    checked_splits: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        checks.one_of("on_bad_image", self.on_bad_image, ON_BAD_IMAGE)
        for name in ("splits", "bad_images"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> tuple[Any, ...]:
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return ImageData, tuple(dict(value) if isinstance(value, Mapping) else value for value in values)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(split)} {name}" for name, split in self.splits.items())
        return f"<ImageData {checks.shown(self.name)}: {len(self.class_names)} classes, {counts}>"

    @property
    def skipped(self) -> tuple[str, ...]:
        """The bad images' paths, sorted, for people: each on one line."""
        return tuple(map(printable, sorted(self.bad_images)))

    @property
    def test_is_val(self) -> bool:
        """Whether the source has no test split, so that its val stands in for it."""
        val, test = (self.splits[name].listed or self.splits[name] for name in ("val", "test"))
        return val is test

    def checked(self, *splits: str) -> "ImageData":
        """Return the data set with every file of `splits` decoded once and the bad ones left out.

        A split that is checked already, or an array of pixels, is not read again.

        Raises:
            DataError: an image that cannot be read (with ``on_bad_image="error"``), or a class without any that can.
            ArgumentError: an unknown split.

        Example:
            >>> from mixnet_tf.data.sources import load_data
            >>> sorted(load_data("digits").checked("train", "val").checked_splits)
            ['train', 'val']
        """
        data = self
        for name in splits:
            if checks.one_of("split", name, SPLITS) not in data.checked_splits:
                data = data._with_checked(name)
        return data

    def own_part(self, split: str) -> "ImageData":
        """Return the data set with a split's part for this process, where several work on it together."""
        images = self.splits[split]
        indices = own_part(range(len(images)))
        if len(indices) == len(images):
            return self
        return dataclasses.replace(self, splits={**self.splits, split: images.take(indices)})

    def _with_checked(self, name: str) -> "ImageData":
        split, reasons = self.splits[name], dict(self.bad_images)
        bad: set[str] = set()
        if not isinstance(split.images, np.ndarray):
            good = {path for read in self.checked_splits for path in self.splits[read].images}
            unread = [path for path in split.images if path not in good and path not in reasons]
            reasons |= _bad_images(unread, f"checking {name}")
            bad = {path for path in split.images if path in reasons}
        if bad and self.on_bad_image == "error":
            first = next(path for path in split.images if path in bad)
            more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise DataError(f"{reasons[first]}{more}; remove bad images, or skip them (on_bad_image)")
        if bad:
            split = _leave_out(split, bad, f"{self.name}: {name}", self.class_names)
        splits, checked = {**self.splits, name: split}, self.checked_splits | {name}
        return dataclasses.replace(self, splits=splits, bad_images=reasons, checked_splits=checked)


def _leave_out(split: Split, bad: set[str], where: str, class_names: Sequence[str]) -> Split:
    kept = split.take([i for i, path in enumerate(split.images) if path not in bad])
    if lost := np.setdiff1d(split.labels, kept.labels).tolist():
        raise DataError(f"{where} has no readable image of class {class_names[lost[0]]!r}; expected at least one")
    return dataclasses.replace(kept, listed=split)


def _bad_images(paths: Sequence[str], task: str) -> dict[str, str]:
    """Decode every file that has changed since it last was; return what is wrong with those that cannot be.

    Each process decodes its part. What has been decoded is remembered piece by piece, so that a start that is killed
    is not in vain.
    """
    part = own_part(paths)
    marks = known_good.marks(part)  # before they are read: a change meanwhile is another mark
    changed = np.flatnonzero(~known_good.are_known(marks)).tolist()
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool, bar(task, len(changed), "image") as shown:
        for start in range(0, len(changed), _PIECE):
            good = []
            piece = changed[start : start + _PIECE]
            for i, problem in zip(piece, pool.map(_problem, [part[i] for i in piece]), strict=True):
                shown.update()
                if problem is None:
                    good.append(i)
                else:
                    problems[part[i]] = problem
            known_good.remember(marks[good])
    return merged(problems)


def _problem(path: str) -> str | None:
    try:
        decode(path)
    except DataError as error:
        return str(error)
    return None
