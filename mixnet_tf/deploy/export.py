"""From a Keras model and a recipe to a ``.tflite`` on disk."""

import itertools
from pathlib import Path

import keras
import numpy as np

from mixnet_tf.data import ImageData, calibration_images
from mixnet_tf.deploy.convert import CALIBRATION_IMAGES, at_image_size, convert
from mixnet_tf.deploy.graph import deploy_model
from mixnet_tf.deploy.quantize import quantize
from mixnet_tf.deploy.verify import verify_deploy
from mixnet_tf.errors import DeployError, did_you_mean
from mixnet_tf.files import check_free, check_suffix, whole_file

GRAPHS = ("deploy", "plain")
_VERIFY_IMAGES = 4


def export(
    model: keras.Model,
    recipe: str,
    path: str | Path,
    *,
    image_size: int | tuple[int, int],
    graph: str = "deploy",
    calibration: ImageData | None = None,
    images: int = CALIBRATION_IMAGES,
    on_bad_image: str = "error",
    overwrite: bool = False,
) -> Path:
    """Convert `model` and write the ``.tflite``, whole or not at all.

    The deploy graph is checked against the model on real (where `calibration` gives some) and random images first; a
    graph that differs is never written. Its int8 file is made by ``quantize``, the plain graph's by the converter.

    Args:
        model: any classifier of this package, or a model around one.
        recipe: ``"float32"``, ``"float16"`` or ``"int8"``.
        path: the file to write.
        image_size: pixels: a side, or (height, width).
        graph: ``"deploy"`` rewrites the model into the equal graph that LiteRT runs fast; ``"plain"`` converts it as
            it is.
        calibration: for ``"int8"``: real images; `images` of its training split are used.
        images: how many.
        on_bad_image: ``"error"`` or ``"skip"``, for calibration images.
        overwrite: replace a file that exists.

    Raises:
        MixNetError: an unknown recipe or graph, a wrong image size, the recipe needs images, the model cannot be
            converted, the deploy graph differs, or the file cannot be written.
    """
    if graph not in GRAPHS:
        raise DeployError(f"graph {graph!r}, expected one of {', '.join(GRAPHS)}{did_you_mean(graph, GRAPHS)}")
    check_suffix(path, ".tflite")
    check_free(path, overwrite=overwrite)
    if recipe == "int8" and calibration is None:
        raise DeployError("recipe int8 needs real images to find the range of every activation: give --calibration")
    model = at_image_size(model, image_size)
    size = tuple(model.inputs[0].shape[1:3])
    if recipe == "int8" and graph == "deploy":
        quantize(
            model,
            recipe,
            calibration,
            path,
            image_size=size,
            images=images,
            on_bad_image=on_bad_image,
            overwrite=overwrite,
        )
        return Path(path)

    def real_images(count: int):
        if calibration is None:
            return iter(())
        return calibration_images(calibration, image_size=size, count=count, on_bad_image=on_bad_image)

    if graph == "deploy":
        deployed = deploy_model(model, image_size=size, target="float")
        real = list(itertools.islice(real_images(_VERIFY_IMAGES), _VERIFY_IMAGES))
        verify_deploy(model, deployed, np.concatenate(real) if real else None)
        model = deployed
    content = convert(model, recipe, image_size=size, representative_dataset=lambda: real_images(images))
    with whole_file(path, overwrite=overwrite) as part:
        part.write_bytes(content)
    return Path(path)
