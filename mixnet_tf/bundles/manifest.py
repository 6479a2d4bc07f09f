"""A bundle's manifest: the names of its files, and what it must say so that nothing reads them wrongly."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixnet_tf.checks import complaint, image_size, number
from mixnet_tf.data.choices import LEAST_CROP
from mixnet_tf.errors import ArgumentError, MixNetError, printable

MODEL, TWIN, MANIFEST = "model.tflite", "model_float32.tflite", "manifest.json"
FORMAT = 1


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest, and check what the code reads of it, and that it names files inside the folder only.

    Raises:
        MixNetError: no bundle, or a damaged manifest.

    Example:
        >>> read_manifest(Path("to_ship"))["image_size"]                                         # doctest: +SKIP
        [224, 224]
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise MixNetError(f"{printable(str(folder))}: no such folder; expected a bundle")
    if not path.is_file():
        raise MixNetError(f"{printable(str(folder))}: no bundle: it has no {MANIFEST}; `mixnet-tf bundle` makes one")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        _check(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        detail = f": {error}" if isinstance(error, ArgumentError) else ""
        raise MixNetError(f"{path}: damaged, or no manifest of a bundle of format {FORMAT}{detail}") from error
    return manifest


def sha256(content: bytes) -> str:
    """Return the hash of a file's content as a manifest has it."""
    return hashlib.sha256(content).hexdigest()


def read_checked(folder: Path, name: str, record: Mapping[str, Any]) -> bytes:
    """Return the content of a file of a bundle.

    Args:
        folder: the bundle.
        name: of the file.
        record: what the manifest says of it.

    Raises:
        MixNetError: it is missing, or is not the one that the bundle was made with.
    """
    path = folder / name
    if not path.is_file():
        raise MixNetError(f"{path}: missing; the manifest names it")
    content = path.read_bytes()
    if sha256(content) != record["sha256"]:
        raise MixNetError(f"{path}: has changed since the bundle was made: its SHA-256 is not the manifest's")
    return content


def _check(manifest: Any) -> None:
    """Raise ArgumentError, or whatever reading raises, where a manifest is not what it must be."""
    names, goldens = {*manifest["files"]}, manifest["goldens"]
    inside = all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in names)
    hashed = all(isinstance(record["sha256"], str) for record in manifest["files"].values())
    models = {MODEL, TWIN} & names
    named = all({golden["image"], *(golden[name] for name in models)} <= names for golden in goldens)
    for name, sound, expected in (
        ("format", manifest["format"] == FORMAT, str(FORMAT)),
        ("files", MODEL in names and inside and hashed, f"{MODEL} and others in the folder, each with its sha256"),
        ("goldens", len(goldens) > 0 and named, "at least one, of files that the manifest names"),
    ):
        if not sound:
            raise ArgumentError(complaint(name, manifest[name], expected))
    image_size([*manifest["image_size"]])
    number("crop_fraction", manifest["crop_fraction"], LEAST_CROP, 1)
    for name in models:
        number(f"tolerance of {name}", manifest["tolerances"][name]["litert"], 0)
