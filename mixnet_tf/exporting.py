"""A model and a recipe → a ``.tflite`` and the record of how it was made: the only writer of files that ship."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import keras

from mixnet_tf.checks import ImageSize, number, one_of
from mixnet_tf.data.calibration import CalibrationSet
from mixnet_tf.data.choices import CALIBRATION_IMAGES, SCORES
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.labels import read_labels
from mixnet_tf.data.sources import Source, as_data
from mixnet_tf.environment import environment
from mixnet_tf.errors import DeployError
from mixnet_tf.evidence.benchmark import benchmark
from mixnet_tf.evidence.diagnosis import check_reportable, diagnosis_files, write_diagnosis
from mixnet_tf.files import check_free, check_suffix, whole_files
from mixnet_tf.float_graphs import GRAPHS, KerasSource, TfliteSource
from mixnet_tf.litert.description import About, classes_in, describe
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.neighbours import output_names
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.litert.scores import add_scores, check_scores, to_logits
from mixnet_tf.metrics import OutputError, output_errors
from mixnet_tf.progress.steps import step
from mixnet_tf.quantization.backends import weights_to_int8
from mixnet_tf.quantization.io_types import take_pixels
from mixnet_tf.quantization.quantize import backend_of, quantize
from mixnet_tf.quantization.recipe import Recipe, load_recipe
from mixnet_tf.quantization.types import Exported, Int8Result
from mixnet_tf.saving import load_model
from mixnet_tf.training.run_models import keras_or_lite

JUDGES = 500
"""Validation images that judge whether an agreement is reached."""

_VERIFY_IMAGES = 4
_MEASURED_IMAGES = 64


def export(
    model: keras.Model | str | Path | KerasSource,
    output: str | Path,
    *,
    recipe: Recipe | str | Path = "mobile",
    data: ImageData | Source | None = None,
    graph: str = "deploy",
    image_size: ImageSize | None = None,
    images: int = CALIBRATION_IMAGES,
    seed: int = 0,
    min_agreement: float | None = None,
    scores: str | None = None,
    labels: Sequence[str] | str | Path | None = None,
    about: About | None = None,
    input_format: str | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a ``.tflite`` and the record of how it was made, whole or not at all.

    The deploy graph is compared with the model on random images, and on some of the calibration's, before anything is
    written.

    Args:
        model: a Keras model, a ``.keras`` file, a run's folder, or a float ``.tflite`` from anywhere; or a KerasSource,
            whose `graph` and `image_size` then hold. A ``.tflite`` is taken as it is, whatever `graph` says.
        output: the file to write.
        recipe: name or path, see ``load_recipe``.
        data: real images, see ``load_data``, for recipes with int8 arithmetic: `images` of its training split are used.
        graph: ``"deploy"`` rewrites the model into the equal graph that LiteRT runs fast; ``"plain"`` takes it as
            it is.
        image_size: pixels: a side, or (height, width); default: the model's own.
        images: how many to calibrate with.
        seed: which ones.
        min_agreement: overrides the recipe's.
        scores: overrides the recipe's: ``"softmax"``, ``"sigmoid"`` or ``"logits"``.
        labels: the names of the classes, for a classifier's file: a list, a text file with one on each line, or
            ``"imagenet"``; default: those in or beside the model's file, else the data's.
        about: name, description, version, author and license for the file's metadata; what it leaves out is the
            model's own.
        input_format: what the model takes for an image, one of INPUT_FORMATS, where it does not tell.
        report: a folder for ``report.md``, ``report.json`` and a plot about where the error comes from; only for
            recipes with int8 arithmetic.
        overwrite: replace files that exist.

    Raises:
        MixNetError: no images, a recipe or model that cannot be used, a deploy graph that differs, activations that are
            not finite, or a file that cannot be written.

    Example:
        >>> export("model.keras", "model.tflite", data="digits")                                 # doctest: +SKIP
    """
    recipe, output = load_recipe(recipe), Path(output)
    if min_agreement is not None:
        recipe = dataclasses.replace(recipe, min_agreement=number("min_agreement", min_agreement, 0, 1))
    if scores is not None:
        recipe = dataclasses.replace(recipe, scores=one_of("scores", scores, SCORES))
    one_of("graph", graph, GRAPHS)
    _check_request(recipe, data is not None, output, report, overwrite)
    calibration = None if data is None else as_data(data)
    source = _open(model, image_size, graph, input_format)
    _check_classifier(recipe, source)
    names = _labels(labels, source, calibration, recipe)
    chosen = _choose(calibration, recipe, source.image_size, images, seed)
    float_graph = source.float_graph(recipe, chosen.part(0, _VERIFY_IMAGES) if chosen else [])
    if recipe.scores is not None:
        check_scores(float_graph, recipe.scores, _without_classes(recipe))
    verbatim = not (isinstance(source, KerasSource) or recipe.changes or labels or about)
    if not verbatim:  # else a .tflite is written as it was, byte for byte
        float_graph = _with_logits(float_graph, recipe)
        float_graph.input_format = source.input_format
    if report is not None and calibration is not None:
        calibration = check_reportable(float_graph, calibration)
    judges = _judges(recipe, chosen)
    made, result = _make(float_graph, recipe, chosen, judges)
    errors = _errors(result, chosen) if chosen and result else ()  # of logits: before what follows changes the graph
    if recipe.pixels:
        take_pixels(made)
    if recipe.scores is not None:
        add_scores(made, recipe.scores)
    if not verbatim:
        crop = source.crop_fraction if calibration is None else calibration.crop_fraction
        describe(made, source.about if about is None else about.over(source.about), names, crop)
    source.result = result
    sources = [chosen, judges, calibration]
    skipped = {path for data in sources if data is not None for path in data.skipped}
    exported = _describe(output, made.content(), recipe, source, chosen, result, errors, tuple(sorted(skipped)))
    _write(exported, made.content(), overwrite)
    if report is not None and calibration is not None and result is not None and chosen is not None:
        write_diagnosis(exported, result, chosen, calibration, report, overwrite=overwrite)
    return exported


def _check_request(recipe: Recipe, has_images: bool, output: Path, report: str | Path | None, overwrite: bool) -> None:
    """Refuse what cannot work before anything is computed."""
    check_suffix(output, ".tflite")
    for path in (output, _record_path(output), *diagnosis_files(report)):
        check_free(path, overwrite=overwrite)
    if recipe.weights == "int8":
        backend_of(recipe)
    if recipe.quantized and not has_images:
        raise DeployError(f"recipe {recipe.name} needs real images to find the range of every tensor: give --data")
    if report is not None and not recipe.quantized:
        raise DeployError(f"recipe {recipe.name} has float arithmetic; a report needs a recipe with int8 arithmetic")


def _check_classifier(recipe: Recipe, source: KerasSource | TfliteSource) -> None:
    """Refuse a recipe that is about classes for a model that gives none, before anything is computed."""
    about_classes = recipe.scores is not None or recipe.labels or recipe.min_agreement is not None
    if about_classes and classes_in(source.output_shapes) is None:
        shapes = ", ".join(map(str, source.output_shapes))
        raise DeployError(
            f"{source.where}: gives {shapes}, and recipe {recipe.name} needs a classifier, with one output "
            f"(1, classes); take --recipe {_without_classes(recipe)}"
        )


def _without_classes(recipe: Recipe) -> str:
    return "int8_float_io" if recipe.quantized else "float32"


def _record_path(output: Path) -> Path:
    return output.with_suffix(".quantization.json")


def _open(
    model: keras.Model | str | Path | KerasSource, image_size: ImageSize | None, graph: str, input_format: str | None
) -> KerasSource | TfliteSource:
    if isinstance(model, KerasSource):
        return model
    where = None
    if isinstance(model, str | Path):
        path = keras_or_lite(model)
        if path.suffix == ".tflite":
            return TfliteSource(path, image_size, input_format)
        model, where = load_model(path), str(path)
    return KerasSource(model, image_size=image_size, graph=graph, where=where, input_format=input_format)


def _choose(
    calibration: ImageData | None, recipe: Recipe, size: tuple[int, int], images: int, seed: int
) -> CalibrationSet | None:
    """Return the images to calibrate with, or the few on which a float graph is compared."""
    if calibration is None:
        return None
    count = images if recipe.quantized else _VERIFY_IMAGES
    return CalibrationSet.choose(calibration, image_size=size, count=count, seed=seed)


def _judges(recipe: Recipe, chosen: CalibrationSet | None) -> CalibrationSet | None:
    """Return the images that say whether a recipe's agreement is reached."""
    if chosen is None or recipe.min_agreement is None:
        return None
    size, seed = chosen.image_size, chosen.seed
    return CalibrationSet.choose(chosen.data, image_size=size, count=JUDGES, seed=seed, split="val")


def _labels(
    asked: Sequence[str] | str | Path | None,
    source: KerasSource | TfliteSource,
    data: ImageData | None,
    recipe: Recipe,
) -> tuple[str, ...] | None:
    """Return the names of a classifier's classes; None where nobody tells and the recipe does without."""
    classes = classes_in(source.output_shapes)
    if classes is None:
        if asked is not None:
            shapes = ", ".join(map(str, source.output_shapes))
            raise DeployError(f"labels: {source.where} gives {shapes}, expected one output (1, classes)")
        return None
    if asked is not None:
        return read_labels(asked, classes)
    known = [source.labels, data.class_names if data else None]
    names = next((names for names in known if names is not None and len(names) == classes), None)
    if names is None and recipe.labels:
        raise DeployError(
            f"recipe {recipe.name} needs the names of {classes} classes: give --labels labels.txt; of a model that "
            f"gives features, take --recipe {_without_classes(recipe)}"
        )
    return names


def _with_logits(graph: FlatGraph, recipe: Recipe) -> FlatGraph:
    """Return a copy; where the recipe names scores, it gives logits."""
    graph = graph.copy()
    if recipe.scores is not None:
        to_logits(graph)
    return graph


def _make(
    graph: FlatGraph, recipe: Recipe, chosen: CalibrationSet | None, judges: CalibrationSet | None
) -> tuple[FlatGraph, Int8Result | None]:
    """Return the graph that the recipe makes of a float one, and how it came about where it has int8 arithmetic."""
    if chosen is None or not recipe.quantized:
        return (weights_to_int8(graph) if recipe.weights == "int8" else graph), None
    result = _with_costs(quantize(graph, recipe, chosen, judges or []))
    return result.graph, result


def _describe(
    output: Path,
    content: bytes,
    recipe: Recipe,
    source: KerasSource | TfliteSource,
    chosen: CalibrationSet | None,
    result: Int8Result | None,
    errors: tuple[OutputError, ...],
    skipped: tuple[str, ...],
) -> Exported:
    calibrated = result.calibrated if result else None
    return Exported(
        path=str(output),
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        recipe=recipe,
        backend=backend_of(recipe) if recipe.weights == "int8" else None,
        calibration=chosen.manifest() if chosen and result else None,
        emphasis=calibrated.emphasis if calibrated else None,
        equalization_error=calibrated.equalization_error if calibrated else None,
        fallback=result.fallback if result else None,
        outputs=errors,
        notes=(*source.notes, *(calibrated.notes if calibrated else ()), *(chosen.notes if chosen and result else ())),
        skipped_images=skipped,
        versions=environment(),
    )


@step("measure every output")
def _errors(result: Int8Result, chosen: CalibrationSet) -> tuple[OutputError, ...]:
    exact, int8 = (LiteModel(graph.content(), num_threads=2) for graph in (result.calibrated.reference, result.graph))
    pairs = ((exact.run(image), int8.run(image)) for image in chosen.part(0, _MEASURED_IMAGES))
    return output_errors(output_names(result.calibrated.reference), pairs)


def _with_costs(result: Int8Result) -> Int8Result:
    """Measure what the fallback costs against int8 throughout, before one of the graphs gets labels and metadata."""
    if result.fallback is None:
        return result
    before, after = result.throughout.content(), result.graph.content()
    latency = benchmark([before, after])[1].ratio if result.fallback.blocks else 1.0
    fallback = dataclasses.replace(result.fallback, size_ratio=len(after) / len(before), latency_ratio=latency)
    return dataclasses.replace(result, fallback=fallback)


def _write(exported: Exported, content: bytes, overwrite: bool) -> None:
    """Write the file and its record, both or none. After a kill between the two, the record's SHA-256 tells."""
    output = Path(exported.path)
    with whole_files(_record_path(output), output, overwrite=overwrite) as (record, file):
        record.write_text(json.dumps(dataclasses.asdict(exported), indent=2) + "\n", encoding="utf-8")
        file.write_bytes(content)
