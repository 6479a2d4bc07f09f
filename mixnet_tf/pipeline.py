"""The whole path in a page: train → deploy graph → convert → evaluate on LiteRT → benchmark → report."""

from pathlib import Path

import numpy as np

from mixnet_tf.config import ModelConfig
from mixnet_tf.data.batches import ImageData
from mixnet_tf.evidence.benchmark import benchmark
from mixnet_tf.evidence.evaluation import open_predictor, predict, score, with_distance
from mixnet_tf.evidence.report import ModelResult, Report, write_report
from mixnet_tf.exporting import export
from mixnet_tf.quantization.recipe import EXPORT_RECIPES
from mixnet_tf.training.config import TrainingRecipe
from mixnet_tf.training.fit import MODEL, train


def run_pipeline(
    config: ModelConfig,
    data: ImageData,
    output: str | Path,
    *,
    data_source: str,
    image_size: int | tuple[int, int],
    recipe: TrainingRecipe,
    graph: str = "deploy",
    on_bad_image: str = "error",
    **training,
) -> Report:
    """Train, convert with every recipe, evaluate on the test split, time, and write the report.

    Args:
        config: the network.
        data: see ``load_data``.
        output: the run's folder. It will hold ``model.keras``, ``model_{float32,float16,int8}.tflite``, ``labels.txt``,
            ``report.md``, ``report.json`` and plots, and what training leaves.
        data_source: how `data` was named, for the commands in the report.
        image_size: pixels: a side, or (height, width).
        recipe: see TrainingRecipe.
        graph: ``"deploy"`` or ``"plain"``, see ``export``.
        on_bad_image: ``"error"`` or ``"skip"``.
        **training: further arguments of ``train``.

    Raises:
        MixNetError: from any step; the steps before it have left whole files.
    """
    output = Path(output)
    model = train(config, data, output, image_size=image_size, recipe=recipe, on_bad_image=on_bad_image, **training)
    files = {name: output / f"model_{name}.tflite" for name in EXPORT_RECIPES}
    arguments = {"image_size": image_size, "graph": graph, "calibration": data, "on_bad_image": on_bad_image}
    notes = [note for name, path in files.items() for note in export(model, name, path, overwrite=True, **arguments)]
    paths = [output / MODEL, *files.values()]
    outputs, labels = {}, None
    for path in paths:
        outputs[path], labels = predict(open_predictor(path), data, "test", on_bad_image=on_bad_image)
    latencies = dict(zip(files.values(), benchmark(list(files.values())), strict=True))

    results = []
    for path in paths:
        result = score(str(path), "test", outputs[path], labels, data.class_names)
        if path != paths[0]:
            result = with_distance(result, outputs[path], str(paths[0]), outputs[paths[0]])
        results.append(
            ModelResult(file=path.name, size_bytes=path.stat().st_size, evaluation=result, latency=latencies.get(path))
        )
    report = Report(
        model=config.name,
        data=data.name,
        data_source=data_source,
        class_names=data.class_names,
        image_size=image_size,
        epochs=recipe.epochs,
        results=tuple(results),
        test_is_val=data.splits["test"] is data.splits["val"],
        skipped_images=data.skipped(),
        notes=tuple(notes),
    )
    write_report(report, output, _confusion(outputs[paths[-1]].argmax(axis=1), labels, len(data.class_names)))
    return report


def _confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predicted), 1)
    return counts
