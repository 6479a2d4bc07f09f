"""Files of models that a command or a function is given: a run's folder stands for the one in it."""

import json
from pathlib import Path
from typing import Any

from mixnet_tf.checks import complaint, image_size
from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.training.run_folder import MODEL, REQUEST, holds_run

_MAKE = "mixnet-tf export {} --recipe float32 --output F.tflite"


def keras_or_lite(path: str | Path) -> Path:
    """Return the file that a path stands for: for a run's folder, the model that its training ended with.

    Raises:
        MixNetError: a folder without one.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if (path / MODEL).is_file():
        return path / MODEL
    if holds_run(path):
        raise MixNetError(f"{path}: its training has not ended, so there is no {MODEL} yet; continue it with --resume")
    raise MixNetError(f"{path}: a folder without {MODEL}; expected a .keras or a .tflite file, or the folder of a run")


def crop_beside(path: str | Path) -> float | None:
    """Return the part of a resized picture that evaluation kept in the run that a model is from; None without a run."""
    crop = _said_beside(path, "crop_fraction")
    return crop if isinstance(crop, int | float) and 0 < crop <= 1 else None


def size_beside(path: str | Path) -> tuple[int, int] | None:
    """Return the (height, width) of whole images in the run that a model is from, in pixels; None without a run.

    The ``best.keras`` of a run that begins with small images takes images of any size.
    """
    try:
        return image_size(_said_beside(path, "image_size"))
    except MixNetError:
        return None


def _said_beside(path: str | Path, key: str) -> Any:
    if not Path(path).is_file():  # the name of a model in memory, which no run in the working directory is about
        return None
    try:
        return json.loads((Path(path).parent / REQUEST).read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def lite(model: object) -> Path:
    """Return the ``.tflite`` that a path stands for: for a folder, the only one in it.

    Raises:
        MixNetError: a folder with several, or without one; a ``.keras`` file, or a Keras model.
    """
    if not isinstance(model, str | Path):
        raise DeployError(complaint("model", model, "a .tflite file, which `mixnet_tf.export(model, file)` makes"))
    path = Path(model)
    if path.suffix == ".keras":
        raise DeployError(f"{path}: expected a .tflite file, which `{_MAKE.format(path)}` makes")
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.tflite"))
    if len(files) > 1:
        raise MixNetError(f"{path}: holds {', '.join(file.name for file in files)}; name one of them")
    if not files:
        raise MixNetError(f"{path}: holds no .tflite file; `{_MAKE.format(path)}` makes one of a run's model")
    return files[0]
