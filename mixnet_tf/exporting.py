"""A model and a recipe → a ``.tflite`` and the record of how it was made: the only writer of files that ship."""

import dataclasses
import hashlib
import json
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert.schema_py_generated import TensorType

from mixnet_tf.checks import ImageSize, number, one_of
from mixnet_tf.checks import image_size as checked_size
from mixnet_tf.data.calibration import CalibrationSet
from mixnet_tf.data.choices import CALIBRATION_IMAGES
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.input_format import prepare, settle
from mixnet_tf.data.sources import Source, as_data
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.deploy.front import front_of
from mixnet_tf.deploy.graphs import check_float
from mixnet_tf.deploy.verify import verify_deploy
from mixnet_tf.environment import environment
from mixnet_tf.errors import DeployError
from mixnet_tf.evidence.benchmark import benchmark
from mixnet_tf.evidence.diagnosis import check_reportable, diagnosis_files, write_diagnosis
from mixnet_tf.files import check_free, check_suffix, whole_files
from mixnet_tf.guard.trial import TRIAL
from mixnet_tf.litert.convert import at_image_size, convert
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.front import lite_front
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.backends import weights_to_int8
from mixnet_tf.quantization.quantize import backend_of, quantize
from mixnet_tf.quantization.recipe import Recipe, load_recipe
from mixnet_tf.quantization.types import Exported, Fallback, Images, Int8Result
from mixnet_tf.saving import load_model
from mixnet_tf.training.run_models import keras_or_lite

GRAPHS = ("deploy", "plain")
JUDGES = 500
"""Validation images that judge whether an agreement is reached."""

_VERIFY_IMAGES = 4
_SMALL_TYPES = {getattr(TensorType, name) for name in ("FLOAT16", "INT4", "INT8", "UINT8", "INT16")}


class KerasSource:
    """The float graphs of a Keras model; each is made and checked once, whatever is exported from it.

    Args:
        model: a classifier, or another model of one image.
        image_size: pixels: a side, or (height, width); default: the model's own.
        graph: ``"deploy"`` for the rewritten graph that LiteRT runs fast, ``"plain"`` for the model as it is.
        where: the model's file, for messages.
        input_format: what the model takes for an image, where its layers do not tell.

    Attributes:
        input_format: one of INPUT_FORMATS; None where it is not known.
        result: how the int8 of the last file came about; None where it has float arithmetic.

    Raises:
        MixNetError: the model takes images of any size and none is given, or not of this one; or another format.
    """

    notes: tuple[str, ...] = ()
    result: Int8Result | None = None

    def __init__(
        self,
        model: keras.Model,
        *,
        image_size: ImageSize | None = None,
        graph: str = "deploy",
        where: str | None = None,
        input_format: str | None = None,
    ):
        one_of("graph", graph, GRAPHS)
        check_float(model)
        if image_size is None and None in model.inputs[0].shape[1:3]:
            raise DeployError(f"{where or model.name}: takes images of any size; give the image size (--image-size)")
        size = model.inputs[0].shape[1:3] if image_size is None else image_size
        self._model, self._graph = at_image_size(model, size), graph
        self._where = where or model.name
        self.input_format = settle(front_of(model), input_format, self._where)
        self.image_size: tuple[int, int] = checked_size(tuple(self._model.inputs[0].shape[1:3]))
        self._deployed: dict[str, keras.Model] = {}
        self._converted: dict[tuple[str, str], FlatGraph] = {}

    def float_graph(self, recipe: Recipe, images: Images) -> FlatGraph:
        """Return the graph to start from, in float16 where the recipe says so.

        Args:
            recipe: how the file is made.
            images: on which the deploy graph is compared with the model, besides random ones.

        Raises:
            DeployError: the deploy graph differs from the model, or one of them cannot be built or converted.
        """
        weights = "float16" if recipe.weights == "float16" else "float32"
        target = self._graph if self._graph == "plain" else "int8" if recipe.quantized else "float"
        if (target, weights) not in self._converted:
            model = self._model if target == "plain" else self._deploy(target, images)
            converted = convert(model, image_size=self.image_size, weights=weights)
            converted.input_format = self.input_format
            self._converted[target, weights] = converted
        return self._converted[target, weights]

    def _deploy(self, target: str, images: Images) -> keras.Model:
        if target not in self._deployed:
            deployed = deploy_model(self._model, image_size=self.image_size, target=target)
            prepared = [prepare(image, self.input_format, self._where) for image in images]
            verify_deploy(self._model, deployed, np.concatenate(prepared) if prepared else None)
            self._deployed[target] = deployed
        return self._deployed[target]


class TfliteSource:
    """A float32 ``.tflite`` from anywhere, taken as it is."""

    result: Int8Result | None = None

    def __init__(self, path: Path, image_size: ImageSize | None = None, input_format: str | None = None):
        TRIAL.prepare()
        self._graph = FlatGraph.read(path)
        self._path, model = path, LiteModel(self._graph)
        self.image_size, _ = model.image_size, model.output
        self.notes = (f"{path.name} is taken as it is: only a .keras file can be rewritten as the deploy graph",)
        self._wanted_size = image_size
        self.input_format = settle(lite_front(self._graph), input_format, str(path))

    def float_graph(self, recipe: Recipe, images: Images) -> FlatGraph:
        """Return the file's graph.

        Raises:
            DeployError: it is small already, has several subgraphs, or the recipe needs a Keras model.
        """
        verbatim = not recipe.quantized and recipe.weights == "float32"  # then the file is written as it was
        graph, size = self._graph if verbatim else self._graph.copy(), self.image_size
        if {tensor.type for tensor in graph.tensors} & _SMALL_TYPES or recipe.weights == "float16":
            expected = "a .keras file" if recipe.weights == "float16" else "a float32 .tflite or a .keras file"
            raise DeployError(f"{self._path}: cannot be quantized with recipe {recipe.name}; expected {expected}")
        if len(graph.model.subgraphs) != 1:
            raise DeployError(f"{self._path}: a .tflite with {len(graph.model.subgraphs)} subgraphs, expected one")
        if recipe.quantized:
            LiteModel(self._graph, num_threads=2, kernels="builtin", keep_tensors=True)  # so it will be calibrated
        if self._wanted_size is not None and checked_size(self._wanted_size) != size:
            raise DeployError(
                f"{self._path}: takes images of {size[0]} x {size[1]}; the image size of a .tflite is fixed"
            )
        if not verbatim:
            graph.input_format = self.input_format
        return graph


def export(
    model: keras.Model | str | Path | KerasSource,
    output: str | Path,
    *,
    recipe: Recipe | str | Path = "int8",
    data: ImageData | Source | None = None,
    graph: str = "deploy",
    image_size: ImageSize | None = None,
    images: int = CALIBRATION_IMAGES,
    seed: int = 0,
    min_agreement: float | None = None,
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
        input_format: what the model takes for an image, one of INPUT_FORMATS, where it does not tell.
        report: a folder for ``report.md``, ``report.json`` and a plot about where the error comes from; only for
            recipes with int8 arithmetic.
        overwrite: replace files that exist.

    Raises:
        MixNetError: no images, a recipe or model that cannot be used, a deploy graph that differs, activations that are
            not finite, or a file that cannot be written.

    Example:
        >>> export("model.keras", "model_int8.tflite", data="digits")                            # doctest: +SKIP
    """
    recipe, output = load_recipe(recipe), Path(output)
    if min_agreement is not None:
        recipe = dataclasses.replace(recipe, min_agreement=number("min_agreement", min_agreement, 0, 1))
    one_of("graph", graph, GRAPHS)
    _check_request(recipe, data is not None, output, report, overwrite)
    calibration = None if data is None else as_data(data)
    source = _open(model, image_size, graph, input_format)
    chosen = _choose(calibration, recipe, source.image_size, images, seed)
    float_graph = source.float_graph(recipe, chosen.part(0, _VERIFY_IMAGES) if chosen else [])
    if report is not None and calibration is not None:
        calibration = check_reportable(float_graph, calibration)
    judges = _judges(recipe, chosen)
    made, result = _make(float_graph, recipe, chosen, judges)
    source.result = result
    sources = [chosen, judges, calibration]
    skipped = {path for data in sources if data is not None for path in data.skipped}
    exported = _describe(output, made.content(), recipe, source, chosen, result, tuple(sorted(skipped)))
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


def _make(
    graph: FlatGraph, recipe: Recipe, chosen: CalibrationSet | None, judges: CalibrationSet | None
) -> tuple[FlatGraph, Int8Result | None]:
    """Return the graph that the recipe makes of a float one, and how it came about where it has int8 arithmetic."""
    if chosen is None or not recipe.quantized:
        return (weights_to_int8(graph) if recipe.weights == "int8" else graph), None
    result = quantize(graph, recipe, chosen, judges or [])
    return result.graph, result


def _describe(
    output: Path,
    content: bytes,
    recipe: Recipe,
    source: KerasSource | TfliteSource,
    chosen: CalibrationSet | None,
    result: Int8Result | None,
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
        equalization_error=calibrated.equalization_error if calibrated else None,
        fallback=_with_costs(result) if result else None,
        notes=(*source.notes, *(calibrated.notes if calibrated else ()), *(chosen.notes if chosen and result else ())),
        skipped_images=skipped,
        versions=environment(),
    )


def _with_costs(result: Int8Result) -> Fallback | None:
    """Return the fallback with what it costs against int8 throughout."""
    if result.fallback is None:
        return None
    before, after = result.throughout.content(), result.graph.content()
    latency = benchmark([before, after])[1].ratio if result.fallback.blocks else 1.0
    return dataclasses.replace(result.fallback, size_ratio=len(after) / len(before), latency_ratio=latency)


def _write(exported: Exported, content: bytes, overwrite: bool) -> None:
    """Write the file and its record, both or none. After a kill between the two, the record's SHA-256 tells."""
    output = Path(exported.path)
    with whole_files(_record_path(output), output, overwrite=overwrite) as (record, file):
        record.write_text(json.dumps(dataclasses.asdict(exported), indent=2) + "\n", encoding="utf-8")
        file.write_bytes(content)
