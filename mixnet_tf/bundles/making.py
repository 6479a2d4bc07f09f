"""A folder that can be handed over: model, float twin, labels, model card, golden outputs, and a manifest over all."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mixnet_tf.bundles.manifest import FORMAT, MANIFEST, MODEL, TWIN, read_manifest, sha256
from mixnet_tf.checks import one_of
from mixnet_tf.costs.ledger import ledger_of
from mixnet_tf.data.calibration import take_turns
from mixnet_tf.data.choices import SPLITS
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.data.sources import Source, as_data
from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.evidence.card import Card, model_card
from mixnet_tf.evidence.classifier import Classifier, check_model, open_classifier
from mixnet_tf.evidence.evaluation import check_classes, outputs_of
from mixnet_tf.evidence.markdown import escaped
from mixnet_tf.files import check_name, is_part, remove_parts, whole_files
from mixnet_tf.litert.op_table import ModelTable, inspect_model
from mixnet_tf.metrics import class_scores, count_confusion, mebibytes, same_class

_CARD, _LABELS, _GOLDENS = "README.md", "labels.txt", "goldens"
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


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A file of a bundle."""

    source: Path
    table: ModelTable
    classifier: Classifier


@dataclasses.dataclass(frozen=True)
class _Measured(_Opened):
    """The same, run over a split."""

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
    opened = {name: _open(path) for name, path in files.items()}
    if TWIN in opened:
        _check_twin(opened[MODEL], opened[TWIN])
    images = _as_fed(as_data(data, split=split), opened[MODEL]).checked(split)
    measured = {
        name: _Measured(**vars(file), outputs=outputs_of(file.classifier, images, split)[0])
        for name, file in opened.items()
    }
    labels = images.splits[split].labels
    goldens = _goldens(measured, images, split)
    made = _write(output, measured, _card(measured, images, split, trained_on), goldens, overwrite)
    top1 = float((measured[MODEL].outputs.argmax(axis=1) == labels).mean())
    return Bundle(path=str(output), files=tuple(made), size_bytes=sum(map(len, made.values())), top1=top1)


def _check_folder(output: Path, overwrite: bool) -> None:
    check_name(output)
    if output.exists() and not output.is_dir():
        raise MixNetError(f"{output}: is a file, expected the name of a folder")
    if all(is_part(path) or (path.is_dir() and not path.is_symlink()) for path in output.rglob("*")):
        return  # nothing, or what a full disk or a kill left
    if not (output / MANIFEST).is_file():
        raise MixNetError(f"{output}: holds files that are no bundle; expected a new or an empty folder")
    try:
        read_manifest(output)  # other programs have a manifest.json, too
    except MixNetError as error:
        raise MixNetError(
            f"{output}: holds files that are no bundle, or a damaged one ({error}); expected a new or an empty folder"
        ) from error
    links = sorted(path for path in output.rglob("*") if path.is_symlink())
    if links:
        raise MixNetError(f"{links[0]}: is a link, which would be written through; remove it, or give another folder")
    if not overwrite:
        raise MixNetError(f"{output}: holds a bundle already; give --overwrite to replace it, or another folder")


def _open(path: Path) -> _Opened:
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
    return _Opened(path, table, classifier)


def _check_twin(model: _Opened, twin: _Opened) -> None:
    """Refuse a twin that takes other pictures, or gives other classes: its numbers would stand beside the model's."""
    of_twin = _traits(twin)
    for trait, expected in _traits(model).items():
        if of_twin[trait] != expected:
            raise DeployError(
                f"{twin.source}: {trait} is {of_twin[trait]!r}, but {expected!r} in {model.source}; expected a twin "
                "exported from the same model with the same --data"
            )


def _traits(file: _Opened) -> dict[str, Any]:
    classifier, labels = file.classifier, file.table.labels or ()
    traits = {"image size": classifier.image_size, "crop fraction": classifier.crop_fraction, "classes": len(labels)}
    return traits | {f"class {i}": label for i, label in enumerate(labels)}


def _as_fed(data: ImageData, model: _Opened) -> ImageData:
    """Return the images with the crop fraction that the model's file records, which whoever runs the file applies.

    Raises:
        MixNetError: images of other classes, or with another fraction: by either one, the card would hold an accuracy
            of pixels that the card, or the data, does not mean.
    """
    check_classes(model.classifier, data)
    fraction = model.classifier.crop_fraction
    if not math.isclose(fraction, data.crop_fraction, rel_tol=1e-5):  # the file's has six digits
        raise DeployError(
            f"{model.source}: keeps {fraction:g} of a picture, but {data.name} is evaluated with "
            f"{data.crop_fraction:g}; expected equal fractions: export it again with --data of {data.name}, which "
            "records them"
        )
    return dataclasses.replace(data, crop_fraction=fraction)


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
        cost=_cost(model.table),
        outputs=model.outputs,
        labels=labels,
        confusion=confusion,
        classes=class_scores(confusion, names),
        agreement=None if twin is None else same_class(twin.outputs, model.outputs),
        twin_outputs=None if twin is None else twin.outputs,
        twin=None if twin is None else twin.table,
    )


def _cost(table: ModelTable) -> str:
    costs = ledger_of(table)
    missing = f" without {escaped(', '.join(costs.unknown))}, whose cost is not known," if costs.unknown else ""
    return (
        f"{costs.instructions / 1e6:.1f} M instructions per image{missing} on a {costs.core}, one thread, and "
        f"{mebibytes(costs.peak_bytes)} MiB of activations at the most; predicted, and no latency"
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
        "format": FORMAT,
        **(dataclasses.asdict(table.about) if table.about else {}),
        "image_size": list(table.inputs[0].shape[1:3]),
        "crop_fraction": card.crop_fraction,
        "classes": len(table.labels or ()),
        "files": {name: {"sha256": sha256(data), "bytes": len(data)} for name, data in contents.items()},
        "goldens": [
            {"image": image, "label": label, **{name: _golden(number, name) for name in measured}}
            for number, (image, (label, _)) in enumerate(goldens.items())
        ],
        "tolerances": {name: _tolerances(file.table, file.table.logit_step) for name, file in measured.items()},
    }
    contents[MANIFEST] = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    left = _left_over(output, contents)
    for folder in (output, output / _GOLDENS):
        if folder.is_dir():
            remove_parts(folder)
    with whole_files(*(output / name for name in contents), overwrite=overwrite) as parts:
        for part, content in zip(parts, contents.values(), strict=True):
            part.write_bytes(content)
    for path in left:
        path.unlink(missing_ok=True)
    return contents


def _left_over(output: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Return the files of an earlier bundle that the new one does not replace."""
    earlier = read_manifest(output)["files"] if (output / MANIFEST).is_file() else {}
    return [output / name for name in earlier if name not in contents]
