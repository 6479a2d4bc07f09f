"""From a Keras model and a recipe to a ``.tflite`` on disk."""

from pathlib import Path

import keras

from mixnet_tf.data.batches import ImageData, calibration_images
from mixnet_tf.errors import DeployError, did_you_mean
from mixnet_tf.files import check_free, check_suffix, whole_file
from mixnet_tf.litert.convert import at_image_size, convert
from mixnet_tf.quantization.quantize import quantize, require_images
from mixnet_tf.quantization.recipe import CALIBRATION_IMAGES, EXPORT_RECIPES

GRAPHS = ("deploy", "plain")


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
) -> tuple[str, ...]:
    """Convert `model` and write the ``.tflite``, whole or not at all.

    The deploy graph is ``quantize``'s: checked against the model on random images, and on real ones where `calibration`
    gives some, before anything is written, with a record beside the file. The plain graph is the converter's own work.

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

    Returns:
        What the user should know about the file, one sentence each.

    Raises:
        MixNetError: an unknown recipe or graph, a wrong image size, the recipe needs images, the model cannot be
            converted, the deploy graph differs, or the file cannot be written.

    Example:
        >>> export(load_model("model.keras"), "float16", "model.tflite", image_size=224)         # doctest: +SKIP
        ()
    """
    for name, value, known in (("graph", graph, GRAPHS), ("recipe", recipe, EXPORT_RECIPES)):
        if value not in known:
            raise DeployError(f"{name} {value!r}, expected one of {', '.join(known)}{did_you_mean(value, known)}")
    model = at_image_size(model, image_size)
    size = tuple(model.inputs[0].shape[1:3])
    arguments = {"image_size": size, "on_bad_image": on_bad_image}
    if graph == "deploy":
        return quantize(model, recipe, calibration, path, images=images, overwrite=overwrite, **arguments).notes
    check_suffix(path, ".tflite")
    check_free(path, overwrite=overwrite)
    if recipe == "int8":
        require_images(recipe, calibration)

    def real_images():
        return calibration_images(calibration, count=images, **arguments)

    content = convert(model, recipe, image_size=size, representative_dataset=real_images)
    with whole_file(path, overwrite=overwrite) as part:
        part.write_bytes(content)
    Path(path).with_suffix(".quantization.json").unlink(missing_ok=True)  # of the file that was here before
    return ()
