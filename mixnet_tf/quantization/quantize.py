"""From a trained model to an int8 ``.tflite`` that keeps its accuracy.

deploy graph → float ``.tflite`` → equalized channels → ranges over real images → int8 → corrected biases → input and
output types. What follows the conversion works on the flatbuffer, so it also takes a float ``.tflite`` from elsewhere.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert.schema_py_generated import TensorType

from mixnet_tf.data.batches import ImageData, calibration_images, take_turns
from mixnet_tf.data.pixels import height_and_width
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.deploy.verify import verify_deploy
from mixnet_tf.errors import DeployError
from mixnet_tf.evidence.benchmark import benchmark
from mixnet_tf.evidence.diagnosis import check_reportable, report_files, write_quantization_report
from mixnet_tf.evidence.report import environment
from mixnet_tf.files import check_free, check_suffix, whole_file
from mixnet_tf.litert.convert import at_image_size, convert
from mixnet_tf.litert.flatgraph import FlatGraph, Outputs
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.backends import choose_backend, to_int8, weights_to_int8
from mixnet_tf.quantization.bias_correction import correct_biases
from mixnet_tf.quantization.equalize import equalize
from mixnet_tf.quantization.fallback import fewest_float_blocks, float_names
from mixnet_tf.quantization.io_types import set_types
from mixnet_tf.quantization.ranges import constant_tensors, measure_extremes, measure_ranges
from mixnet_tf.quantization.recipe import CALIBRATION_IMAGES, Recipe, load_recipe
from mixnet_tf.saving import load_model

CORRECTION_IMAGES = 64
"""Images of the bias correction: three times as many gained 0.0 to 0.1 dB."""

FEW_IMAGES = 32
_TOLERANCE = 1e-3  # of the largest output: float32 rounding of another order of magnitudes is about 1e-5
_VERIFY_IMAGES = 4
_HELD_OUT_IMAGES = 500
_SMALL_TYPES = {getattr(TensorType, name) for name in ("FLOAT16", "INT4", "INT8", "UINT8", "INT16")}

Images = Callable[[], Iterable[np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """The images that decided about a file.

    Attributes:
        data: name of the data set.
        seed: of their choice.
        images: of the training split: class and file name, or the index where it is an array.
    """

    data: str
    seed: int
    images: tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fallback:
    """What blocks in float32 bring and cost.

    Attributes:
        blocks: their names.
        images: of the validation split, on which the agreement with the float model was measured.
        agreement: share of them with the same top-1 class.
        size_ratio: of the file, to the one in int8 throughout.
        latency_ratio: the same on this machine, one thread.
    """

    blocks: tuple[str, ...]
    images: int
    agreement: float
    size_ratio: float
    latency_ratio: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantized:
    """What ``quantize`` made; also saved beside the file as ``F.quantization.json``.

    Attributes:
        path: the ``.tflite``.
        size_bytes: its size.
        sha256: of its content.
        recipe: how it was made.
        backend: which quantizer ran, or None.
        calibration: on which images, or None.
        equalization_error: largest change of the float output that equalization left, as a share of the largest output.
        fallback: which blocks stayed in float32, or None where the recipe leaves none.
        notes: what the user should know.
        versions: of the packages.
    """

    path: str
    size_bytes: int
    sha256: str
    recipe: Recipe
    backend: str | None
    calibration: Calibration | None
    equalization_error: float | None
    fallback: Fallback | None
    notes: tuple[str, ...]
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A float ``.tflite``, its equalized twin, and the range of each of the twin's tensors by name."""

    reference: bytes
    content: bytes
    ranges: dict[str, tuple[float, float]]
    equalization_error: float | None
    notes: tuple[str, ...]


def quantize(
    model: keras.Model | str | Path,
    recipe: Recipe | str | Path,
    calibration: ImageData | None,
    output: str | Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    images: int = CALIBRATION_IMAGES,
    seed: int = 0,
    min_agreement: float | None = None,
    on_bad_image: str = "error",
    overwrite: bool = False,
    report: str | Path | None = None,
) -> Quantized:
    """Quantize a model and write the ``.tflite`` and its record, whole or not at all.

    Args:
        model: a classifier, a ``.keras`` file, or a float ``.tflite`` from anywhere.
        recipe: name or path, see ``load_recipe``.
        calibration: real images, for recipes with int8 arithmetic: `images` of its training split are used.
        output: the file to write.
        image_size: pixels: a side, or (height, width); default: the model's own.
        images: how many to calibrate with.
        seed: which ones.
        min_agreement: overrides the recipe's.
        on_bad_image: ``"error"`` or ``"skip"``, for calibration images.
        overwrite: replace files that exist.
        report: a folder for ``report.md``, ``report.json`` and a plot about where the error comes from; only for
            recipes with int8 arithmetic.

    Raises:
        MixNetError: no images, a recipe or model that cannot be used, activations that are not finite, or a file that
            cannot be written.

    Example:
        >>> quantize("model.keras", "int8", load_data("digits"), "model_int8.tflite").fallback  # doctest: +SKIP
    """
    recipe = load_recipe(recipe)
    if min_agreement is not None:
        recipe = dataclasses.replace(recipe, min_agreement=min_agreement)
    record = Path(output).with_suffix(".quantization.json")
    _check_request(recipe, calibration, (output, record, *report_files(report)), report, overwrite)
    backend = _backend(recipe)
    content, notes = _float_content(model, recipe, calibration, image_size, on_bad_image)
    if report is not None:
        check_reportable(content, calibration, on_bad_image)
    prepared = fallback = source = None
    if recipe.quantized:
        source = _Source(calibration, FlatGraph(content).image_size, images, seed, on_bad_image)
        prepared = prepare(content, recipe, source.calibration_images)
        content, fallback = _int8(prepared, recipe, backend, source)
        notes += [*prepared.notes, *source.notes()]
    elif recipe.weights == "int8":
        content = weights_to_int8(content)
    result = Quantized(
        path=str(output),
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        recipe=recipe,
        backend=backend,
        calibration=source and source.manifest(),
        equalization_error=prepared and prepared.equalization_error,
        fallback=fallback,
        notes=tuple(notes),
        versions=environment() | _version_of("litert-quantizer"),
    )
    with whole_file(output, overwrite=overwrite) as part:
        part.write_bytes(content)
        with whole_file(record, overwrite=overwrite) as beside:
            beside.write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n")
    if report is not None:
        _write_report(result, prepared, source, report, overwrite)
    return result


def _backend(recipe: Recipe) -> str | None:
    if recipe.weights != "int8":
        return None
    leaves_float = recipe.min_agreement is not None or not recipe.quantized
    return choose_backend("litert-quantizer" if leaves_float else recipe.backend)  # tf.lite cannot


def _check_request(recipe: Recipe, calibration, paths: Sequence, report, overwrite: bool) -> None:
    check_suffix(paths[0], ".tflite")
    for path in paths:
        check_free(path, overwrite=overwrite)
    if recipe.quantized:
        require_images(recipe.name, calibration)
    if report is not None and not recipe.quantized:
        raise DeployError(f"recipe {recipe.name} has float arithmetic; a report needs a recipe with int8 arithmetic")


def require_images(recipe: str, calibration: ImageData | None) -> None:
    """Refuse a recipe with int8 arithmetic where no calibration images are given."""
    if calibration is None:
        raise DeployError(f"recipe {recipe} needs real images to find the range of every tensor: give --calibration")


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where the images come from that decide about a file."""

    data: ImageData
    image_size: tuple[int, int]
    count: int
    seed: int
    on_bad_image: str

    def calibration_images(self, count: int | None = None) -> Iterable[np.ndarray]:
        arguments = {"image_size": self.image_size, "seed": self.seed, "on_bad_image": self.on_bad_image}
        return calibration_images(self.data, count=count or self.count, **arguments)

    def held_out_images(self) -> list[np.ndarray]:
        arguments = {"image_size": self.image_size, "seed": self.seed, "on_bad_image": self.on_bad_image}
        return list(calibration_images(self.data, split="val", count=_HELD_OUT_IMAGES, **arguments))

    def manifest(self) -> Calibration:
        names = ("/".join(Path(own).parts[-2:]) if isinstance(own, str) else own for own in self._chosen()[0])
        return Calibration(data=self.data.name, seed=self.seed, images=tuple(names))

    def notes(self) -> list[str]:
        names, labels = self._chosen()
        notes, count = [], len(names)
        if count < FEW_IMAGES:
            notes.append(f"calibrated on {count} images; 100 to 500 are usual, below {FEW_IMAGES} ranges are chance")
        elif count < self.count:
            notes.append(
                f"calibrated on {count} images, all that {self.data.name} has to train on; {self.count} were wanted"
            )
        if len(set(labels)) == 1 and len(self.data.class_names) > 1:
            notes.append("all calibration images are of one class; the ranges of the others are guessed")
        return notes

    def _chosen(self) -> tuple[list[str | int], list[int]]:
        """Return the paths or indices, and the labels, of the calibration images."""
        split = self.data.splits["train"]
        is_array = isinstance(split.images, np.ndarray)
        order = [int(i) for i in take_turns(split.labels, self.seed)]
        good = [i for i in order if is_array or split.images[i] not in self.data.bad_images][: self.count]
        return [i if is_array else split.images[i] for i in good], [int(split.labels[i]) for i in good]


def _write_report(result: Quantized, prepared: Prepared, source: _Source, folder, overwrite: bool) -> None:
    def again(others: Sequence[np.ndarray]) -> tuple[Prepared, bytes]:
        made = prepare(prepared.reference, result.recipe, lambda: others)
        parts = float_names(result.fallback.blocks if result.fallback else ())
        return made, int8_content(made, result.recipe, result.backend, others[:CORRECTION_IMAGES], parts)

    arguments = {"on_bad_image": source.on_bad_image, "overwrite": overwrite}
    write_quantization_report(result, prepared, again, source.data, folder, **arguments)


def _version_of(package: str) -> dict[str, str]:
    try:
        return {package: importlib.metadata.version(package)}
    except importlib.metadata.PackageNotFoundError:
        return {}


def _float_content(model, recipe: Recipe, calibration, image_size, on_bad_image) -> tuple[bytes, list[str]]:
    """Return the float ``.tflite`` to start from, float16 where the recipe says so."""
    if isinstance(model, str | Path) and Path(model).suffix == ".tflite":
        return _foreign(Path(model), recipe, image_size)
    if not isinstance(model, keras.Model):
        model = load_model(model)
    own = model.inputs[0].shape[1:3]
    if image_size is None and None in own:
        raise DeployError(f"{model.name}: takes images of any size; give the image size")
    model = at_image_size(model, image_size or own)
    size = tuple(model.inputs[0].shape[1:3])
    deployed = deploy_model(model, image_size=size, target="int8" if recipe.quantized else "float")
    real = []
    if calibration is not None:
        found = calibration_images(calibration, image_size=size, count=_VERIFY_IMAGES, on_bad_image=on_bad_image)
        real = list(found)
    verify_deploy(model, deployed, np.concatenate(real) if real else None)
    return convert(deployed, "float16" if recipe.weights == "float16" else "float32", image_size=size), []


def _foreign(path: Path, recipe: Recipe, image_size) -> tuple[bytes, list[str]]:
    size = LiteModel(path).image_size
    content = path.read_bytes()
    types = {tensor.type for tensor in FlatGraph(content).tensors}
    if types & _SMALL_TYPES or recipe.weights == "float16":
        expected = "a .keras file" if recipe.weights == "float16" else "a float32 .tflite or a .keras file"
        raise DeployError(f"{path}: cannot be quantized with recipe {recipe.name}; expected {expected}")
    if image_size is not None and height_and_width(image_size) != size:
        raise DeployError(f"{path}: takes images of {size[0]} x {size[1]}; the image size of a .tflite is fixed")
    return content, [f"{path.name} is taken as it is: only a .keras file can be rewritten as the deploy graph"]


def prepare(content: bytes, recipe: Recipe, images: Images) -> Prepared:
    """Equalize a float ``.tflite`` and find the ranges of its tensors.

    Args:
        content: the float file.
        recipe: how.
        images: gives, each time it is called, normalized float images (1, height, width, channels).

    Raises:
        DeployError: no images, a tensor that is not finite, or an equalization that changes the output.
    """
    from tqdm import tqdm

    graph = FlatGraph(content)
    extremes = measure_extremes(graph, tqdm(images(), desc="calibrate", unit="image", leave=False, disable=None))
    notes = [f"tensor {name!r} never changes on the calibration images" for name in constant_tensors(graph, extremes)]
    error = None
    if recipe.equalize.streams or recipe.equalize.relu:
        extremes = equalize(graph, extremes, streams=recipe.equalize.streams, relu=recipe.equalize.relu)
        error = _check_equal(content, graph.content(), itertools.islice(images(), _VERIFY_IMAGES))
    own = measure_ranges(
        graph, extremes, tqdm(images(), desc="ranges", unit="image", leave=False, disable=None), recipe.ranges
    )
    ranges = {graph.name(i): limits for i, limits in own.items()}
    return Prepared(
        reference=content, content=graph.content(), ranges=ranges, equalization_error=error, notes=tuple(notes)
    )


def _check_equal(before: bytes, after: bytes, images: Iterable[np.ndarray]) -> float:
    runs = Outputs(before), Outputs(after)
    worst = 0.0
    for image in images:
        for wanted, found in zip(*(run(image) for run in runs), strict=True):
            worst = max(worst, float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30)))
    if not worst <= _TOLERANCE:
        raise DeployError(f"equalization changes the output by {worst:.2g} of the largest, expected below {_TOLERANCE}")
    return worst


def int8_content(
    prepared: Prepared, recipe: Recipe, backend: str, images: Sequence[np.ndarray], float_parts: tuple[str, ...] = ()
) -> bytes:
    """Return the file with int8 arithmetic, corrected biases, and int8 input and output.

    Args:
        prepared: from ``prepare``.
        recipe: how.
        backend: which quantizer.
        images: for the bias correction.
        float_parts: see ``to_int8``.
    """
    content = to_int8(prepared.content, prepared.ranges, backend, float_parts)
    if recipe.bias_correction:
        content = correct_biases(content, prepared.content, images)
    return content


def _int8(prepared: Prepared, recipe: Recipe, backend: str, source: _Source) -> tuple[bytes, Fallback | None]:
    """Return the file's content, and what stayed in float32."""
    real = list(source.calibration_images(min(source.count, CORRECTION_IMAGES)))

    @functools.cache  # each takes a bias correction, and the search asks again for what is made here
    def corrected(blocks: tuple[str, ...]) -> bytes:
        return int8_content(prepared, recipe, backend, real, float_names(blocks))

    content, fallback = corrected(()), None
    if recipe.min_agreement is not None:
        judges = source.held_out_images()
        blocks, agreement = fewest_float_blocks(prepared, recipe, backend, judges, corrected)
        content = corrected(blocks)
        costs = _cost(corrected(()), content) if blocks else (1.0, 1.0)
        fallback = Fallback(
            blocks=blocks, images=len(judges), agreement=agreement, size_ratio=costs[0], latency_ratio=costs[1]
        )
    graph = FlatGraph(content)
    set_types(graph, recipe.input, recipe.output)
    return graph.content(), fallback


def _cost(before: bytes, after: bytes) -> tuple[float, float]:
    """Return the ratios of the sizes and of the latencies of two files."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("before.tflite", "after.tflite")]
        for path, content in zip(paths, (before, after), strict=True):
            path.write_bytes(content)
        return len(after) / len(before), benchmark(paths)[1].ratio
