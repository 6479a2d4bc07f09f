"""Models in ``.keras`` files."""

from pathlib import Path

import keras

import mixnet_tf.layers  # noqa: F401  (registers the layers)
from mixnet_tf.errors import WeightsError
from mixnet_tf.files import whole_file


def load_model(path: str | Path) -> keras.Model:
    """Read a ``.keras`` file, with one clear line where that fails.

    Raises:
        WeightsError: no such file, a truncated file, or one that is not a Keras model.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected a .keras model")
    if path.suffix == ".tflite":
        raise WeightsError(f"{path}: is converted already; expected a .keras model")
    try:
        return keras.saving.load_model(path)
    except Exception as error:  # zipfile, h5py, json and Keras each raise their own kinds
        reason = str(error).strip().split("\n")[0][:200]
        raise WeightsError(f"{path}: not a readable .keras model: {reason}") from error


def save_model(model: keras.Model, path: str | Path, *, overwrite: bool = True) -> None:
    """Write `model` without its optimizer, whole or not at all."""
    with whole_file(path, overwrite=overwrite) as part:
        keras.Model(model.input, model.output, name=model.name).save(part)
