"""Two models that classify nothing, on the same images: the error of every output.

Feature extractors, backbones without a head and embeddings have outputs of any shape, as many as they like.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mixnet_tf.checks import ImageSize
from mixnet_tf.data.batches import evaluation_batches
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.data.input_format import known, prepare, settle
from mixnet_tf.errors import MixNetError
from mixnet_tf.evidence.classifier import fit_size
from mixnet_tf.evidence.markdown import escaped
from mixnet_tf.metrics import OutputError, decibels, output_errors
from mixnet_tf.progress.steps import bar
from mixnet_tf.training.run_models import size_beside

if TYPE_CHECKING:  # two .tflite files do without Keras
    import keras

    from mixnet_tf.litert.flatgraph import FlatGraph

_BATCH = 16  # feature maps are large


@dataclasses.dataclass(frozen=True)
class FeatureModel:
    """A model of one image, opened for inference.

    Attributes:
        path: of its file.
        run: uint8 pixels (n, height, width, 3) to every output, float (n, …).
        image_size: (height, width) in pixels; None stands for any.
        names: of the outputs.
        trained_size: (height, width) of the images that it was trained on, in pixels, as far as its run tells.
    """

    path: str
    run: Callable[[np.ndarray], list[np.ndarray]]
    image_size: tuple[int | None, int | None]
    names: tuple[str, ...]
    trained_size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureComparison:
    """What ``compare`` measures of models that are no classifiers.

    Attributes:
        a: path of the first model, the reference.
        b: path of the second.
        split: the part of the data set.
        count: images.
        outputs: the error of each, in the first model's order.
    """

    a: str
    b: str
    split: str
    count: int
    outputs: tuple[OutputError, ...]


def gives_features(model: "keras.Model | FlatGraph") -> bool:
    """Say whether a model gives something else than one output (batch, n)."""
    from mixnet_tf.litert.flatgraph import FlatGraph

    if isinstance(model, FlatGraph):
        ranks = [len(model.shape(index)) for index in model.outputs]
    else:
        ranks = [len(output.shape) for output in getattr(model, "outputs", None) or []]
    return bool(ranks) and ranks != [2]


def open_features(model: "keras.Model | FlatGraph", where: str, input_format: str | None) -> FeatureModel:
    """Open a model of one image, with any outputs.

    Raises:
        MixNetError: another kind of input, or one of which nobody says what it takes.
    """
    from mixnet_tf.litert.flatgraph import FlatGraph

    if not isinstance(model, FlatGraph):
        return _of_keras(model, where, input_format)
    from mixnet_tf.litert.front import lite_front
    from mixnet_tf.litert.neighbours import output_names
    from mixnet_tf.litert.runtime import LiteModel

    lite = LiteModel(model)
    lite.input_format = known(settle(lite_front(model), input_format, where), where)

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        outputs = zip(*(lite.run(image[None]) for image in pixels), strict=True)
        return [np.concatenate(arrays) for arrays in outputs]

    return FeatureModel(where, run, lite.image_size, output_names(model))


def _of_keras(model: Any, where: str, input_format: str | None) -> FeatureModel:
    from mixnet_tf.deploy.front import front_of
    from mixnet_tf.deploy.graphs import functional

    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise MixNetError(f"{where}: expected a model of one image: (batch, height, width, channels)")
    taken = known(settle(front_of(model), input_format, where), where)

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        outputs = model(prepare(pixels, taken), training=False)
        return [np.asarray(output) for output in (outputs if isinstance(outputs, list | tuple) else [outputs])]

    names = tuple(functional(model).output_names)
    return FeatureModel(where, run, model.inputs[0].shape[1:3], names, size_beside(where))


def compare_features(
    a: FeatureModel, b: FeatureModel, data: ImageData, split: str, image_size: ImageSize | None
) -> FeatureComparison:
    """Compare every output of two models.

    Raises:
        MixNetError: they have not the same outputs, or give something else than finite numbers.
    """
    if len(a.names) != len(b.names):
        raise MixNetError(f"{b.path}: gives {len(b.names)} outputs, but {a.path} gives {len(a.names)}")
    sizes = [fit_size(model, data.image_size, image_size) for model in (a, b)]
    if sizes[0] != sizes[1]:
        given = " and ".join(f"{height} x {width}" for height, width in sizes)
        raise MixNetError(f"{b.path}: takes other images than {a.path}: {given}; give the image size (--image-size)")
    count = len(data.splits[split])

    def pairs() -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
        with bar(f"compare {Path(a.path).name} and {Path(b.path).name}", count, "image") as shown:
            for pixels, _ in evaluation_batches(data, split, image_size=sizes[0], batch_size=_BATCH):
                yield _matched(a, b, pixels)
                shown.update(len(pixels))

    return FeatureComparison(a=a.path, b=b.path, split=split, count=count, outputs=output_errors(a.names, pairs()))


def _matched(a: FeatureModel, b: FeatureModel, pixels: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Run two models; the second's outputs come in the first's order, by their names where these are the same."""
    wanted, reached = a.run(pixels), b.run(pixels)
    if set(a.names) == set(b.names):
        reached = [reached[b.names.index(name)] for name in a.names]
    for name, output, twin in zip(a.names, wanted, reached, strict=True):
        if output.shape != twin.shape:
            shapes = f"{twin.shape[1:]} in {b.path}, but {output.shape[1:]} in {a.path}"
            raise MixNetError(f"output {name!r} is {shapes}; expected the same outputs")
        if not (np.isfinite(output).all() and np.isfinite(twin).all()):
            raise MixNetError(f"output {name!r} of {a.path} or {b.path} is not finite (NaN or infinity)")
    return wanted, reached


def feature_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the first lines of a diagnosis in Markdown, given its content: the error of every output."""
    comparison, file = report["comparison"], report["file"]
    calibration = f"{len(file['calibration']['images'])} calibration images"
    return [
        f"{comparison['count']} test images, {calibration}, {file['backend']}.",
        "",
        "| output | shape | SNR | median image | worst 5 % at most |",
        "|---|---|---|---|---|",
        *map(_row, comparison["outputs"]),
        "",
        f"Size {report['size_ratio_to_float32']:.2f} and latency {report['latency_ratio_to_float32']:.2f} of float32.",
    ]


def _row(output: Mapping[str, Any]) -> str:
    ratios = (decibels(output[name]) for name in ("snr_db", "snr_median_db", "snr_low_db"))
    return f"| {escaped(output['name'])} | {' x '.join(map(str, output['shape']))} | {' | '.join(ratios)} |"
