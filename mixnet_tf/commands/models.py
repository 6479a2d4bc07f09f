"""Model files that a command is to measure."""

from importlib.util import find_spec
from pathlib import Path

from mixnet_tf.training.run_models import keras_or_lite


def to_measure(path: str | Path) -> Path:
    """Return the model file that a path stands for, before any image is read that it is to be measured on.

    Raises:
        MixNetError: a folder without a model, another suffix, or no such file.
        ModuleNotFoundError: a ``.keras`` file, and no TensorFlow.
    """
    from mixnet_tf.evidence.classifier import check_model

    model = keras_or_lite(path)
    check_model(model)
    if model.suffix == ".keras" and find_spec("tensorflow") is None:
        raise ModuleNotFoundError(name="tensorflow")
    return model
