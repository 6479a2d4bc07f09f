"""Whether a bundle is whole: its files by the manifest's hashes, their outputs by the goldens."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mixnet_tf.bundles.manifest import MODEL, TWIN, read_checked, read_manifest
from mixnet_tf.errors import MixNetError
from mixnet_tf.evidence.classifier import fit_size, open_classifier


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verified:
    """What ``verify`` found of a file with golden outputs.

    Attributes:
        file: its name.
        pictures: how many goldens.
        difference: the largest of a probability.
        tolerance: the largest that is allowed.
    """

    file: str
    pictures: int
    difference: float
    tolerance: float


def verify(folder: str | Path) -> tuple[Verified, ...]:
    """Check that the files of a bundle are the ones it was made with, and that they give the golden outputs here.

    Args:
        folder: the bundle.

    Raises:
        MixNetError: no bundle; a file that is missing or has changed; outputs that are farther off than the tolerance.

    Example:
        >>> verify("to_ship")[0].difference                                                      # doctest: +SKIP
        0.0
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    contents = {name: read_checked(folder, name, record) for name, record in manifest["files"].items()}
    models = [name for name in (MODEL, TWIN) if name in contents]
    return tuple(_compared(folder, name, manifest, contents) for name in models)


def _compared(folder: Path, name: str, manifest: Mapping[str, Any], contents: Mapping[str, bytes]) -> Verified:
    classifier = open_classifier(folder / name)
    height, width = fit_size(classifier, None, manifest["image_size"])
    if not math.isclose(classifier.crop_fraction, manifest["crop_fraction"], rel_tol=1e-5):
        raise MixNetError(
            f"{folder / name}: wants {classifier.crop_fraction:g} of a resized picture, but the manifest says "
            f"{manifest['crop_fraction']:g}; make the bundle again"
        )
    tolerance, largest = float(manifest["tolerances"][name]["litert"]), 0.0
    for golden in manifest["goldens"]:
        image, outputs = golden["image"], golden[name]
        pixels = _array(folder / image, contents[image], "u1", (1, height, width, 3))
        expected = _array(folder / outputs, contents[outputs], "<f4", (1, classifier.classes))
        with np.errstate(all="ignore"):  # of what is no number, the difference is none either, and too large
            difference = float(np.abs(classifier.predict(pixels) - expected).max())
        if not difference <= tolerance:
            raise MixNetError(
                f"{folder / name}: {image} gives probabilities that differ by {difference:.2g} from the golden ones; "
                f"expected {tolerance:g} at most"
            )
        largest = max(largest, difference)
    return Verified(file=name, pictures=len(manifest["goldens"]), difference=largest, tolerance=tolerance)


def _array(path: Path, content: bytes, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the numbers in a file, which must be as many as the shape has."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if len(content) != size:
        raise MixNetError(f"{path}: holds {len(content)} bytes, expected {size}")
    return np.frombuffer(content, dtype).reshape(shape)
