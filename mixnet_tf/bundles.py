"""A folder that can be handed over: model, float twin, labels, model card, golden outputs, and a manifest over all."""

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixnet_tf.checks import one_of
from mixnet_tf.data.calibration import take_turns
from mixnet_tf.data.choices import SPLITS
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.data.sources import Source, as_data
from mixnet_tf.errors import DeployError, MixNetError, printable
from mixnet_tf.evidence.card import Card, model_card
from mixnet_tf.evidence.classifier import Classifier, check_model, open_classifier
from mixnet_tf.evidence.evaluation import outputs_of
from mixnet_tf.files import check_name, whole_files
from mixnet_tf.litert.op_table import ModelTable, inspect_model
from mixnet_tf.metrics import class_scores, count_confusion, same_class

MODEL, TWIN, MANIFEST = "model.tflite", "model_float32.tflite", "manifest.json"
_CARD, _LABELS, _GOLDENS = "README.md", "labels.txt", "goldens"
_FORMAT = 1
_PICTURES = 4
_FLOAT_TOLERANCE = 1e-4
_STEPS = {"litert": 2, "mediapipe": 6}
"""Int8 steps by which a logit may differ on another processor, or in MediaPipe with its own kernels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """What ``bundle`` wrote.

    Attributes:
        path: the folder.
        files: their names.
        size_bytes: of all of them.
        top1: of the model, on the split it was measured on.
    """

    path: str
    files: tuple[str, ...]
    size_bytes: int
    top1: float


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


@dataclasses.dataclass(frozen=True)
class _Measured:
    """A file of a bundle, opened and run over a split."""

    source: Path
    table: ModelTable
    classifier: Classifier
    outputs: np.ndarray


def bundle(
    model: str | Path,
    output: str | Path,
    *,
    data: ImageData | Source,
    float32: str | Path | None = None,
    split: str = "test",
    trained_on: str | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a folder with all that somebody needs who puts a model into an application.

    It holds ``model.tflite``, ``model_float32.tflite``, ``labels.txt``, ``README.md`` (the model card),
    ``manifest.json`` with the SHA-256 of every file, and ``goldens/``: pictures as raw pixels, and what the files make
    of them here.

    Args:
        model: a ``.tflite`` with labels inside that takes pixels and gives probabilities: recipe ``mobile``.
        output: the folder.
        data: real images, see ``load_data``.
        float32: its float32 twin, recipe ``mobile_float32``.
        split: the part of `data` on which the card's numbers are measured, and of which the goldens are.
        trained_on: what the card says about the training data.
        overwrite: replace the files of a bundle that is there.

    Raises:
        MixNetError: another kind of file, data that does not fit, or a folder that holds something else.

    Example:
        >>> bundle("model_mobile.tflite", "to_ship", data="photos")                              # doctest: +SKIP
    """
    output, files = Path(output), {MODEL: Path(model)} | ({} if float32 is None else {TWIN: Path(float32)})
    one_of("split", split, SPLITS)
    _check_folder(output, overwrite)
    for path in files.values():
        check_model(path)
    images = as_data(data, split=split).checked(split)
    measured = {name: _measure(path, images, split) for name, path in files.items()}
    labels = images.splits[split].labels
    goldens = _goldens(measured, images, split)
    made = _write(output, measured, _card(measured, images, split, trained_on), goldens, overwrite)
    top1 = float((measured[MODEL].outputs.argmax(axis=1) == labels).mean())
    return Bundle(path=str(output), files=tuple(made), size_bytes=sum(map(len, made.values())), top1=top1)


def _check_folder(output: Path, overwrite: bool) -> None:
    check_name(output)
    if output.exists() and not output.is_dir():
        raise MixNetError(f"{output}: is a file, expected the name of a folder")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not (output / MANIFEST).is_file():
        raise MixNetError(f"{output}: holds files that are no bundle; expected a new or an empty folder")
    if not overwrite:
        raise MixNetError(f"{output}: holds a bundle already; give --overwrite to replace it, or another folder")


def _measure(path: Path, data: ImageData, split: str) -> _Measured:
    if path.suffix != ".tflite":
        raise MixNetError(f"{path}: expected a .tflite, which `mixnet-tf export {path} --recipe mobile` makes")
    table, classifier = inspect_model(path), open_classifier(path)
    (taken,) = table.inputs
    if table.labels is None:
        raise DeployError(f"{path}: has no labels inside; export it again, with --labels if need be")
    if table.input_format != "pixels" or taken.dtype not in ("uint8", "float32"):
        raise DeployError(
            f"{path}: takes {taken.dtype} {table.input_format}, expected uint8 or float32 pixels: recipe mobile or "
            "mobile_float32"
        )
    if table.scores not in ("softmax", "sigmoid") or classifier.rounded:
        raise DeployError(f"{path}: gives {table.scores}, expected float probabilities: recipe mobile")
    return _Measured(path, table, classifier, outputs_of(classifier, data, split)[0])


def _goldens(measured: Mapping[str, _Measured], data: ImageData, split: str) -> dict[str, tuple[str, dict[str, bytes]]]:
    """Return, by the file of its pixels, the label of each golden picture, and what is written of it, by file."""
    images, size = data.splits[split], measured[MODEL].table.inputs[0].shape[1:3]
    goldens = {}
    for number, index in enumerate(take_turns(images.labels, seed=0)[:_PICTURES].tolist()):
        pixels = evaluation_pixels(images.open(index), (size[0], size[1]), data.crop_fraction)
        written = {f"{_GOLDENS}/{number}.rgb": pixels.tobytes()}
        for name, file in measured.items():
            (outputs,) = file.classifier.predict(pixels[None])
            written[_golden(number, name)] = outputs.astype("<f4").tobytes()
        goldens[f"{_GOLDENS}/{number}.rgb"] = _names(measured)[images.labels[index]], written
    return goldens


def _names(measured: Mapping[str, _Measured]) -> tuple[str, ...]:
    return measured[MODEL].table.labels or ()


def _golden(number: int, name: str) -> str:
    return f"{_GOLDENS}/{number}.{Path(name).stem}.f32"


def _card(measured: Mapping[str, _Measured], data: ImageData, split: str, trained_on: str | None) -> Card:
    model, labels = measured[MODEL], data.splits[split].labels
    names = _names(measured)
    confusion = count_confusion(model.outputs.argmax(axis=1), labels, len(names))
    twin = measured.get(TWIN)
    return Card(
        table=model.table,
        crop_fraction=data.crop_fraction,
        measured_on=f"the {split} split of {data.name}",
        trained_on=trained_on,
        outputs=model.outputs,
        labels=labels,
        confusion=confusion,
        classes=class_scores(confusion, names),
        agreement=None if twin is None else same_class(twin.outputs, model.outputs),
        twin_outputs=None if twin is None else twin.outputs,
        twin=None if twin is None else twin.table,
    )


def _tolerances(table: ModelTable, logit_step: float | None) -> dict[str, float]:
    """Return how far a probability may be off: as far as it moves when every logit moves by some int8 steps.

    Odds change by at most exp(2 x), where each logit changes by x; a probability then changes by at most tanh(x / 2).
    """
    if logit_step is None:
        return dict.fromkeys(_STEPS, _FLOAT_TOLERANCE)
    return {runtime: round(math.tanh(steps * logit_step / 2), 4) for runtime, steps in _STEPS.items()}


def _write(
    output: Path,
    measured: Mapping[str, _Measured],
    card: Card,
    goldens: Mapping[str, tuple[str, dict[str, bytes]]],
    overwrite: bool,
) -> dict[str, bytes]:
    """Write all files, or none; return them by name, the manifest last."""
    table = measured[MODEL].table
    contents = {name: file.source.read_bytes() for name, file in measured.items()}
    contents[_LABELS] = "".join(f"{label}\n" for label in table.labels or ()).encode()
    contents[_CARD] = model_card(card).encode()
    for _, written in goldens.values():
        contents |= written
    manifest = {
        "format": _FORMAT,
        **(dataclasses.asdict(table.about) if table.about else {}),
        "image_size": list(table.inputs[0].shape[1:3]),
        "crop_fraction": card.crop_fraction,
        "classes": len(table.labels or ()),
        "files": {name: {"sha256": _sha256(data), "bytes": len(data)} for name, data in contents.items()},
        "goldens": [
            {"image": image, "label": label, **{name: _golden(number, name) for name in measured}}
            for number, (image, (label, _)) in enumerate(goldens.items())
        ],
        "tolerances": {name: _tolerances(file.table, file.table.logit_step) for name, file in measured.items()},
    }
    contents[MANIFEST] = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    left = _left_over(output, contents)
    with whole_files(*(output / name for name in contents), overwrite=overwrite) as parts:
        for part, content in zip(parts, contents.values(), strict=True):
            part.write_bytes(content)
    for path in left:
        path.unlink(missing_ok=True)
    return contents


def _left_over(output: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Return the files of an earlier bundle that the new one does not replace."""
    earlier: Mapping[str, Any] = {}
    with contextlib.suppress(MixNetError):
        earlier = read_manifest(output)["files"] if (output / MANIFEST).is_file() else {}
    return [output / name for name in earlier if name not in contents]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


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
    contents = {name: _checked(folder, name, record) for name, record in manifest["files"].items()}
    models = [name for name in (MODEL, TWIN) if name in contents]
    return tuple(_compared(folder, name, manifest, contents) for name in models)


def _checked(folder: Path, name: str, record: Mapping[str, Any]) -> bytes:
    path = folder / name
    if not path.is_file():
        raise MixNetError(f"{path}: missing; the manifest names it")
    content = path.read_bytes()
    if _sha256(content) != record["sha256"]:
        raise MixNetError(f"{path}: has changed since the bundle was made: its SHA-256 is not the manifest's")
    return content


def _compared(folder: Path, name: str, manifest: Mapping[str, Any], contents: Mapping[str, bytes]) -> Verified:
    classifier, (height, width) = open_classifier(folder / name), manifest["image_size"]
    tolerance, largest = manifest["tolerances"][name]["litert"], 0.0
    for golden in manifest["goldens"]:
        pixels = np.frombuffer(contents[golden["image"]], np.uint8).reshape(1, height, width, 3)
        expected = np.frombuffer(contents[golden[name]], "<f4")
        difference = float(np.abs(classifier.predict(pixels)[0] - expected).max())
        if not difference <= tolerance:
            raise MixNetError(
                f"{folder / name}: {golden['image']} gives probabilities that differ by {difference:.2g} from the "
                f"golden ones; expected {tolerance:g} at most"
            )
        largest = max(largest, difference)
    return Verified(file=name, pictures=len(manifest["goldens"]), difference=largest, tolerance=tolerance)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest, and check that it names what the code reads, inside the folder.

    Raises:
        MixNetError: no bundle, or a damaged manifest.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise MixNetError(f"{printable(str(folder))}: no bundle: it has no {MANIFEST}; `mixnet-tf bundle` makes one")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        names: Sequence[str] = [*manifest["files"]]
        sound = manifest["format"] == _FORMAT and len(manifest["image_size"]) == 2
        sound &= all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in names)
        sound &= all(isinstance(record["sha256"], str) for record in manifest["files"].values())
        for name in {MODEL, TWIN}.intersection(names):
            sound &= isinstance(manifest["tolerances"][name]["litert"], float)
            sound &= all({golden["image"], golden[name]} <= set(names) for golden in manifest["goldens"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MixNetError(f"{path}: damaged, or no manifest of a bundle") from error
    if not sound or MODEL not in names:
        raise MixNetError(f"{path}: damaged, or no manifest of a bundle of format {_FORMAT}")
    return manifest
