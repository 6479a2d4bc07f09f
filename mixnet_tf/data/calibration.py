"""The real images that decide about a quantized file: chosen once, read as often as it takes."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from mixnet_tf import checks
from mixnet_tf.data.choices import CALIBRATION_IMAGES, SPLITS
from mixnet_tf.data.dataset import ImageData, Split
from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.errors import DataError
from mixnet_tf.progress.steps import bar

FEW_IMAGES = 32
"""Below so many, ranges are chance."""

_KEPT_BYTES = 2**26  # of decoded pixels; images beyond are decoded again in every pass: 445 of 224 x 224 fit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The images that decided about a file.

    Attributes:
        data: name of the data set.
        seed: of their choice.
        images: of the training split: class and file name, or the index where it is an array.
    """

    data: str
    seed: int
    images: tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationSet:
    """Images in the order in which they calibrate; any first ones of them are spread evenly over the classes.

    Iterating gives uint8 pixels (1, height, width, 3), resized and cropped as for evaluation: the same ones each time,
    from the start.

    Attributes:
        data: where they come from; its `bad_images` are those known by now.
        image_size: (height, width) in pixels.
        seed: of the choice.
        wanted: how many images were asked for.
        names: class and file name of each image, or the index where the split is an array.
        images: the chosen images and their labels.
        pixels: of the first ones, which are decoded already.
    """

    data: ImageData = dataclasses.field(repr=False)
    image_size: tuple[int, int]
    seed: int
    wanted: int
    names: tuple[str | int, ...]
    images: Split = dataclasses.field(repr=False)
    pixels: tuple[np.ndarray, ...] = dataclasses.field(repr=False)

    @classmethod
    def choose(
        cls,
        data: ImageData,
        *,
        image_size: checks.ImageSize,
        count: int = CALIBRATION_IMAGES,
        seed: int = 0,
        split: str = "train",
    ) -> "CalibrationSet":
        """Choose images of a split; the classes take turns. Every candidate is decoded here; the pixels of the
        first ones, up to 64 MiB, are kept.

        Args:
            data: from `load_data`; its `on_bad_image` says whether a bad image is an error or another one is taken.
                Whether its splits have been checked makes no difference to the choice.
            image_size: of the images, in pixels.
            count: how many; fewer where the split has fewer.
            seed: which ones.
            split: ``"train"``, ``"val"`` or ``"test"``.

        Raises:
            DataError: a bad image (with ``on_bad_image="error"``), or no readable one.
            ArgumentError: an argument out of range.

        Example:
            >>> from mixnet_tf.data.sources import load_data
            >>> calibration = CalibrationSet.choose(load_data("digits"), image_size=32, count=10)
            >>> len(calibration), next(iter(calibration)).shape, sorted(calibration.labels)
            (10, (1, 32, 32, 3), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
        """
        count, seed = checks.integer("count", count, 1), checks.integer("seed", seed, 0)
        size, whole = checks.image_size(image_size), data.splits[checks.one_of("split", split, SPLITS)]
        whole = whole.listed or whole
        data, indices, pixels = _read(data, whole, size, count, seed)
        if not indices:
            raise DataError(f"{data.name}: no readable image in {split}")
        return cls(
            data=data,
            image_size=size,
            seed=seed,
            wanted=count,
            names=tuple(whole.name(index) for index in indices),
            images=whole.take(indices),
            pixels=tuple(pixels),
        )

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[np.ndarray]:
        for i in range(len(self)):
            yield self._pixels_of(i)[None]

    def _pixels_of(self, i: int) -> np.ndarray:
        if i < len(self.pixels):
            return self.pixels[i]
        return evaluation_pixels(self.images.open(i), self.image_size, self.data.crop_fraction)

    @property
    def labels(self) -> tuple[int, ...]:
        """Index of each image's class."""
        return tuple(self.images.labels.tolist())

    @property
    def skipped(self) -> tuple[str, ...]:
        """Paths of the bad images known by now, for people."""
        return self.data.skipped

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about these images."""
        notes, count = [], len(self)
        if count < FEW_IMAGES:
            notes.append(f"calibrated on {count} images; 100 to 500 are usual, below {FEW_IMAGES} ranges are chance")
        elif count < self.wanted:
            notes.append(
                f"calibrated on {count} images, all that {self.data.name} has to train on; {self.wanted} were wanted"
            )
        if len(set(self.labels)) == 1 and len(self.data.class_names) > 1:
            notes.append("all calibration images are of one class; the ranges of the others are guessed")
        return tuple(notes)

    def part(self, start: int, stop: int) -> "CalibrationSet":
        """Return the images from `start` to before `stop` (or as many of them as there are).

        >>> from mixnet_tf.data.sources import load_data
        >>> calibration = CalibrationSet.choose(load_data("digits"), image_size=32, count=10)
        >>> calibration.part(8, 20).names == calibration.names[8:]
        True
        """
        checks.integer("start", start, 0)
        checks.integer("stop", stop, start)
        chosen = range(len(self))[start:stop]
        return dataclasses.replace(
            self,
            wanted=len(chosen),
            names=self.names[start:stop],
            images=self.images.take(chosen),
            pixels=self.pixels[start:stop],
        )

    def manifest(self) -> Manifest:
        """Return what a file's record says about its images."""
        return Manifest(data=self.data.name, seed=self.seed, images=self.names)


def _read(
    data: ImageData, split: Split, size: tuple[int, int], count: int, seed: int
) -> tuple[ImageData, list[int], list[np.ndarray]]:
    """Decode images in turn until `count` are good; return the data that knows the bad ones, indices and pixels."""
    indices: list[int] = []
    pixels: list[np.ndarray] = []
    bad = dict(data.bad_images)
    room = _KEPT_BYTES // (3 * size[0] * size[1])
    with bar("choose images", min(count, len(split)), "image") as progress:
        for index in take_turns(split.labels, seed).tolist():
            if len(indices) == count:
                break
            path = split.images[index]
            if isinstance(path, str) and path in bad:
                continue
            try:
                image = evaluation_pixels(split.open(index), size, data.crop_fraction)
            except DataError as error:
                if data.on_bad_image == "error":
                    raise
                bad[str(path)] = str(error)
                continue
            indices.append(index)
            if len(pixels) < room:
                pixels.append(image)
            progress.update()
    return dataclasses.replace(data, bad_images=bad), indices, pixels


def take_turns(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return all indices in an order in which any first ones are spread evenly over the labels.

    >>> labels = np.array([0, 0, 0, 0, 1, 1])
    >>> labels[take_turns(labels, 0)[:4]].sum()
    np.int64(2)
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    turns = np.zeros(len(labels), int)
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        turns[members] = np.arange(len(members))
    return shuffled[np.argsort(turns, kind="stable")]
