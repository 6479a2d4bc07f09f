"""From a Keras model and a recipe to a ``.tflite`` on disk."""

from pathlib import Path

import keras

from mixnet_tf.data import ImageData, calibration_images
from mixnet_tf.deploy.convert import convert
from mixnet_tf.errors import DeployError
from mixnet_tf.files import check_free, whole_file

CALIBRATION_IMAGES = 200


def export(
    model: keras.Model,
    recipe: str,
    path: str | Path,
    *,
    image_size: int | tuple[int, int],
    calibration: ImageData | None = None,
    images: int = CALIBRATION_IMAGES,
    on_bad_image: str = "error",
    overwrite: bool = False,
) -> Path:
    """Convert `model` and write the ``.tflite``, whole or not at all.

    Args:
        model: any classifier of this package.
        recipe: ``"float32"``, ``"float16"`` or ``"int8"``.
        path: the file to write.
        image_size: pixels: a side, or (height, width).
        calibration: for ``"int8"``: real images; `images` of its training split are used.
        images: how many.
        on_bad_image: ``"error"`` or ``"skip"``, for calibration images.
        overwrite: replace a file that exists.

    Raises:
        MixNetError: the recipe needs images, the model cannot be converted, or the file cannot be written.
    """
    check_free(path, overwrite=overwrite)
    if recipe == "int8" and calibration is None:
        raise DeployError("recipe int8 needs real images to find the range of every activation: give --calibration")

    def representative_dataset():
        return calibration_images(calibration, image_size=image_size, count=images, on_bad_image=on_bad_image)

    content = convert(
        model,
        recipe,
        image_size=image_size,
        representative_dataset=representative_dataset if calibration is not None else None,
    )
    with whole_file(path, overwrite=overwrite) as part:
        part.write_bytes(content)
    return Path(path)
