"""The whole path in a page: train → deploy graph → convert → evaluate on LiteRT → benchmark → report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mixnet_tf.bundles.making import bundle
from mixnet_tf.checks import ImageSize
from mixnet_tf.config import load_config
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.calibration import CalibrationSet
from mixnet_tf.data.choices import SPLITS
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.sources import Source, as_data
from mixnet_tf.distribution.launch import check_single
from mixnet_tf.evidence.benchmark import benchmark
from mixnet_tf.evidence.classifier import alike, open_classifier
from mixnet_tf.evidence.comparison import Comparison, compare_outputs
from mixnet_tf.evidence.diagnosis import BlockError, block_errors, tensor_errors
from mixnet_tf.evidence.evaluation import outputs_of, score, with_distance
from mixnet_tf.evidence.mistakes import mistaken_pictures, worst_confusions
from mixnet_tf.evidence.report import write_report
from mixnet_tf.evidence.results import ModelResult, Report
from mixnet_tf.evidence.starting import start_up
from mixnet_tf.exporting import export
from mixnet_tf.float_graphs import KerasSource
from mixnet_tf.metrics import class_scores, count_confusion
from mixnet_tf.model import ConfigSource
from mixnet_tf.progress.steps import step
from mixnet_tf.quantization.types import Exported
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.fit import class_weights, train
from mixnet_tf.training.phases import plan_phases
from mixnet_tf.training.run_folder import BUNDLE, MODEL, best_epoch, open_run, read_curves

_RECIPES = {
    "deploy": {"float32": "mobile_float32", "float16": "float16", "mobile": "mobile"},
    "plain": {"float32": "float32", "float16": "float16", "int8": "int8_baseline"},
}
"""Graph → end of the file's name → recipe; the last is the file to ship. The plain int8 one is TensorFlow's."""

BLOCK_IMAGES = 8
"""Test images that show where the error of int8 enters: four times as many moved no block by more than 1.5 dB."""


def run_pipeline(
    config: ConfigSource,
    data: ImageData | Source,
    output: str | Path,
    *,
    data_source: str | None = None,
    image_size: ImageSize | None = None,
    training: TrainingConfig | None = None,
    augmentation: Augmentation | None = None,
    padding: str = "symmetric",
    weights: str | Path | None = None,
    freeze_backbone: bool = False,
    unfreeze: str | int | None = None,
    graph: str = "deploy",
    resume: bool = False,
    overwrite: bool = False,
    profile: int = 0,
    workers: int = 0,
) -> Report:
    """Train, convert with every recipe, evaluate on the test split, time, and write the report.

    Args:
        config: the network: a shipped name, a YAML path, a mapping or a ModelConfig.
        data: see ``load_data``.
        output: the run's folder. It will hold ``model.keras``, ``model_{float32,float16,mobile}.tflite``,
            ``labels.txt``, ``bundle/`` (see ``mixnet_tf.bundle``), ``report.html``, ``report.md``, ``report.json`` and
            plots, and what training leaves.
        data_source: how `data` was named, for the commands in the report; default: the path that it is, else its name.
        image_size: see ``train``; likewise all that follow but `graph`.
        training: how long and how fast to train.
        augmentation: how training images vary.
        padding: of convolutions.
        weights: to start from.
        freeze_backbone: train the head only.
        unfreeze: train from this block on.
        graph: ``"deploy"`` or ``"plain"``, see ``export``.
        resume: continue the run in `output`.
        overwrite: start anew where `output` holds files.
        profile: batches to profile, see ``train``.
        workers: processes that read images, see ``train``.

    Raises:
        MixNetError: from any step; the steps before it have left whole files.

    Example:
        >>> report = run_pipeline("mixnet_nano", "digits", "runs/nano")                          # doctest: +SKIP
        >>> report.results[-1].file                                                              # doctest: +SKIP
        'model_mobile.tflite'
    """
    check_single("pipeline")
    output, training, config = Path(output), training or TrainingConfig(), load_config(config)
    plan_phases(config, training, weights=weights, freeze_backbone=freeze_backbone, unfreeze=unfreeze)  # or its errors
    source, data = data, as_data(data)
    data_source = data_source or (str(source) if isinstance(source, str | Path) else data.name)
    class_weights(config, data, training)  # or its errors
    with open_run(output, resume=resume, overwrite=overwrite):
        data = data.checked(*SPLITS)
        model = train(
            config,
            data,
            output,
            image_size=image_size,
            training=training,
            augmentation=augmentation,
            padding=padding,
            weights=weights,
            freeze_backbone=freeze_backbone,
            unfreeze=unfreeze,
            resume=resume,
            overwrite=overwrite,
            profile=profile,
            workers=workers,
        )
        exported, blocks = _export_all(model, data, output, graph)
        measured = _measure(output / MODEL, [Path(file.path) for file in exported], data)
        report = Report(
            model=config.name,
            data_source=data_source,
            image_size=_image_size(model),
            epochs=training.epochs,
            notes=tuple(note for file in exported for note in file.notes),
            confusions=worst_confusions(measured.confusion, data.class_names),
            blocks=blocks,
            **_about(data),
            **_about_run(output),
            results=measured.results,
            comparison=measured.comparison,
            classes=class_scores(measured.confusion, data.class_names),
        )
        _write_report(report, measured, data, output)
        if graph == "deploy":
            _bundle(output, data)
        return report


def _image_size(model: keras.Model) -> int | tuple[int, int]:
    height, width = model.input_shape[1:3]
    return height if height == width else (height, width)


@step("write the report")
def _write_report(report: Report, measured: "Measured", data: ImageData, output: Path) -> None:
    pictures = mistaken_pictures(data.splits["test"], measured.outputs, report.confusions, data.class_names)
    write_report(report, output, measured.confusion, pictures)


@step("write the bundle")
def _bundle(output: Path, data: ImageData) -> None:
    ship, twin = (output / f"model_{name}.tflite" for name in ("mobile", "float32"))
    trained_on = f"{data.name}: {len(data.splits['train'])} images"
    bundle(ship, output / BUNDLE, data=data, float32=twin, trained_on=trained_on, overwrite=True)


def _about(data: ImageData) -> dict[str, Any]:
    """Return what a report says of its images."""
    return {
        "data": data.name,
        "class_names": data.class_names,
        "test_is_val": data.test_is_val,
        "skipped_images": data.skipped,
        "pixel_range": data.pixel_range,
        "block_images": min(BLOCK_IMAGES, len(data.splits["test"])),
    }


def _about_run(output: Path) -> dict[str, Any]:
    """Return what a report says of the training."""
    return {"history": read_curves(output), "best_epoch": best_epoch(output)[0]}


def _export_all(
    model: keras.Model, data: ImageData, output: Path, graph: str
) -> tuple[list[Exported], tuple[BlockError, ...]]:
    """Write a ``.tflite`` of every number format; the last is the int8 one.

    Returns:
        The record of each, and where the error of int8 enters.
    """
    source = KerasSource(model, graph=graph)
    exported = [
        export(source, output / f"model_{name}.tflite", recipe=recipe, data=data, overwrite=True)
        for name, recipe in _RECIPES[graph].items()
    ]
    images = CalibrationSet.choose(data, split="test", image_size=source.image_size, count=BLOCK_IMAGES)
    errors = tensor_errors(source.result.calibrated, source.result.graph, images) if source.result else []
    return exported, block_errors(errors)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """The trained model and its files on the test split.

    Attributes:
        results: one of each file.
        comparison: of the last file, int8, with the first ``.tflite``, float32.
        confusion: counts (true class, predicted class) of the last file.
        outputs: of the last file, (n, classes).
    """

    results: tuple[ModelResult, ...]
    comparison: Comparison
    confusion: np.ndarray
    outputs: np.ndarray


def _measure(reference: Path, files: Sequence[Path], data: ImageData) -> Measured:
    """Evaluate the trained model and its files on the test split, and time the files."""
    keras_model = open_classifier(reference)
    expected, labels = outputs_of(keras_model, data, "test")
    evaluation = score(str(reference), "test", expected, labels, data.class_names)
    results = [ModelResult(file=reference.name, size_bytes=reference.stat().st_size, evaluation=evaluation)]
    classifiers, outputs = [], []
    for path, latency, start in zip(files, benchmark(files), start_up(files), strict=True):
        classifiers.append(open_classifier(path))
        outputs.append(outputs_of(classifiers[-1], data, "test")[0])
        evaluation = score(str(path), "test", outputs[-1], labels, data.class_names)
        _, wanted, given = alike(keras_model, classifiers[-1], expected, outputs[-1])
        evaluation = with_distance(evaluation, given, str(reference), wanted)
        size = path.stat().st_size
        results.append(
            ModelResult(file=path.name, size_bytes=size, evaluation=evaluation, latency=latency, start=start)
        )
    return Measured(
        results=tuple(results),
        comparison=compare_outputs(classifiers[0], classifiers[-1], outputs[0], outputs[-1], labels, split="test"),
        confusion=count_confusion(outputs[-1].argmax(axis=1), labels, len(data.class_names)),
        outputs=outputs[-1],
    )
