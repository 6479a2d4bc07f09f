"""The whole path in a page: train → deploy graph → convert → evaluate on LiteRT → benchmark → report."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from mixnet_tf.checks import ImageSize
from mixnet_tf.config import ModelConfig
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.choices import SPLITS
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.evidence.benchmark import benchmark
from mixnet_tf.evidence.evaluation import open_predictor, predict, score, with_distance
from mixnet_tf.evidence.report import ModelResult, Report, write_report
from mixnet_tf.exporting import KerasSource, export
from mixnet_tf.progress.steps import step
from mixnet_tf.quantization.types import Exported
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.fit import check_class_weights, train
from mixnet_tf.training.run_folder import MODEL, open_run

_RECIPES = {
    "deploy": {"float32": "float32", "float16": "float16", "int8": "int8"},
    "plain": {"float32": "float32", "float16": "float16", "int8": "int8_baseline"},
}
"""Graph → number format in the name of the file → recipe. The plain files have no step but the ranges."""


def run_pipeline(
    config: ModelConfig,
    data: ImageData,
    output: str | Path,
    *,
    data_source: str,
    image_size: ImageSize | None = None,
    training: TrainingConfig | None = None,
    augmentation: Augmentation | None = None,
    padding: str = "symmetric",
    weights: str | Path | None = None,
    freeze_backbone: bool = False,
    graph: str = "deploy",
    resume: bool = False,
    overwrite: bool = False,
) -> Report:
    """Train, convert with every recipe, evaluate on the test split, time, and write the report.

    Args:
        config: the network.
        data: see ``load_data``.
        output: the run's folder. It will hold ``model.keras``, ``model_{float32,float16,int8}.tflite``, ``labels.txt``,
            ``report.md``, ``report.json`` and plots, and what training leaves.
        data_source: how `data` was named, for the commands in the report.
        image_size: see ``train``; likewise all that follow but `graph`.
        training: how long and how fast to train.
        augmentation: how training images vary.
        padding: of convolutions.
        weights: to start from.
        freeze_backbone: train the head only.
        graph: ``"deploy"`` or ``"plain"``, see ``export``.
        resume: continue the run in `output`.
        overwrite: start anew where `output` holds files.

    Raises:
        MixNetError: from any step; the steps before it have left whole files.

    Example:
        >>> report = run_pipeline(load_config("mixnet_nano"), load_data("digits"), "runs/nano",
        ...                       data_source="digits")                                          # doctest: +SKIP
        >>> report.results[-1].file                                                              # doctest: +SKIP
        'model_int8.tflite'
    """
    output, training = Path(output), training or TrainingConfig()
    check_class_weights(config, data)
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
            resume=resume,
            overwrite=overwrite,
        )
        exported = _export_all(model, data, output, graph)
        results, confusion = _measure(output / MODEL, [Path(file.path) for file in exported], data)
        height, width = model.input_shape[1:3]
        report = Report(
            model=config.name,
            data=data.name,
            data_source=data_source,
            class_names=data.class_names,
            image_size=height if height == width else (height, width),
            epochs=training.epochs,
            results=results,
            test_is_val=data.test_is_val,
            skipped_images=data.skipped,
            notes=tuple(note for file in exported for note in file.notes),
            pixel_range=data.pixel_range,
        )
        with step("write the report"):
            write_report(report, output, confusion)
        return report


def _export_all(model: keras.Model, data: ImageData, output: Path, graph: str) -> list[Exported]:
    """Write a ``.tflite`` of every number format."""
    source = KerasSource(model, graph=graph)
    return [
        export(source, output / f"model_{name}.tflite", recipe=recipe, calibration=data, overwrite=True)
        for name, recipe in _RECIPES[graph].items()
    ]


def _measure(reference: Path, files: Sequence[Path], data: ImageData) -> tuple[tuple[ModelResult, ...], np.ndarray]:
    """Evaluate the trained model and its files on the test split, and time the files.

    Returns:
        A result of each, and the confusion counts (true class, predicted class) of the last file.
    """
    expected, labels = predict(open_predictor(reference), data, "test")
    evaluation = score(str(reference), "test", expected, labels, data.class_names)
    results = [ModelResult(file=reference.name, size_bytes=reference.stat().st_size, evaluation=evaluation)]
    outputs = expected
    for path, latency in zip(files, benchmark(files), strict=True):
        outputs, _ = predict(open_predictor(path), data, "test")
        evaluation = score(str(path), "test", outputs, labels, data.class_names)
        evaluation = with_distance(evaluation, outputs, str(reference), expected)
        size = path.stat().st_size
        results.append(ModelResult(file=path.name, size_bytes=size, evaluation=evaluation, latency=latency))
    return tuple(results), count_confusion(outputs.argmax(axis=1), labels, len(data.class_names))


def count_confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Count the images of every (true class, predicted class)."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predicted), 1)
    return counts
