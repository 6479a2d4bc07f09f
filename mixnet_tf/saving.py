"""Models from and to files: ``.keras``, and state dicts made elsewhere."""

import math
import re
from pathlib import Path

import keras
from keras.src.backend.common import global_state

import mixnet_tf.accuracy  # registers it, for models that were saved in training
import mixnet_tf.optimizer  # noqa: F401 - as well
from mixnet_tf.checks import ImageSize
from mixnet_tf.checks import image_size as checked_size
from mixnet_tf.config import load_config
from mixnet_tf.counting import count_stages
from mixnet_tf.errors import WeightsError, printable
from mixnet_tf.files import whole_file
from mixnet_tf.model import ConfigSource, create_model  # model imports the layers, which registers them
from mixnet_tf.progress.steps import step
from mixnet_tf.weights.keras_files import KerasFile, entries, open_keras_file
from mixnet_tf.weights.loading import load_opened
from mixnet_tf.weights.recognition import recognize
from mixnet_tf.weights.state_dict import Source, StateDict, open_state_dict

_FEWEST_BYTES = 2  # of a weight: float16
_HARMLESS = 2**25  # weights, or bytes, that any machine has: four times the largest MixNet


def load_model(path: str | Path) -> keras.Model:
    """Read a ``.keras`` file, with one clear line where that fails.

    Args:
        path: the file.

    Returns:
        The model; what it takes for an image is its own affair.

    Raises:
        WeightsError: no such file, a damaged file, or one that is not a Keras model; classes that are neither Keras'
            nor registered with it; more weights than the file holds.
    """
    path, where = Path(path), printable(str(path))
    if not path.is_file():
        raise WeightsError(f"{where}: no such file; expected a .keras model")
    if path.suffix == ".tflite":
        raise WeightsError(f"{where}: is converted already; expected a .keras model")
    try:
        with step(f"read {path.name}"), open_keras_file(path, to_build=True) as file:
            model = _build(file)
            model.load_weights(file.weights)
    except WeightsError:
        raise
    except Exception as error:  # zipfile, json and Keras each raise their own kinds
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise WeightsError(f"{where}: not a readable .keras model: {printable(reason)}") from error
    return model


def _build(file: KerasFile) -> keras.Model:
    """Build and compile the model of a configuration; no variable gets memory before their sizes have been approved."""
    compiling = file.config.get("compile_config") or {}
    for entry in list(entries(file.config)):  # an optimizer wants variables at once, so it has to wait
        entry.pop("compile_config", None)
    waiting = "uninitialized_variables"  # where Keras keeps variables that have a shape, but no value yet
    before = global_state.get_global_attribute(waiting)
    global_state.set_global_attribute(waiting, [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(file.config, safe_mode=True)
            metrics = {name: compiling.get(name) for name in ("metrics", "weighted_metrics")}
            keras.saving.deserialize_keras_object(metrics, safe_mode=True)
        if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
            raise ValueError("config.json holds no model that knows its inputs")
        numbers = sum(math.prod(variable.shape) for variable in global_state.get_global_attribute(waiting))
        size = file.weights.stat().st_size
        if numbers * _FEWEST_BYTES > size + _HARMLESS:
            raise ValueError(f"config.json wants {numbers} weights, but model.weights.h5 has {size} bytes")
        with keras.StatelessScope():  # at its end, Keras gives every variable its first value
            pass
    finally:
        global_state.set_global_attribute(waiting, before or [])
    if compiling:
        model.compile_from_config(compiling)
    return model


def save_model(model: keras.Model, path: str | Path, *, overwrite: bool = True) -> None:
    """Write a model without its optimizer, whole or not at all.

    Args:
        model: functional.
        path: a ``.keras`` file.
        overwrite: replace it if it exists.

    Raises:
        MixNetError: the file exists, or cannot be written.
    """
    with whole_file(path, overwrite=overwrite) as part:
        keras.Model(model.input, model.output, name=model.name).save(part)


@step("build the model")
def import_weights(
    source: Source,
    config: ConfigSource,
    *,
    image_size: ImageSize | None = None,
    padding: str = "symmetric",
    classifier_activation: str | None = "softmax",
    allow_nan: bool = False,
) -> keras.Model:
    """Build the classifier that a state dict belongs to, and load it.

    Args:
        source: a file or a mapping, as for ``load_weights``; the number of classes is that of its classifier.
        config: a shipped name (``"mixnet_s"``), a YAML path, a mapping or a ModelConfig.
        image_size: pixels of the model's input: a side, or (height, width); None for any.
        padding: ``"same"`` for the authors' own weights (timm's ``tf_mixnet_*``), which their names do not tell.
        classifier_activation: of the model; None for logits.
        allow_nan: take NaN, infinities and negative variances, too.

    Returns:
        The model; it takes pixels from 0 to 255.

    Raises:
        WeightsError: no classifier in the file, or it does not fit the configuration.
        ConfigError: the configuration does not describe a MixNet.

    Example:
        >>> from mixnet_tf import export_state_dict
        >>> weights = export_state_dict(create_model("mixnet_nano", classes=7), names="netspresso")
        >>> import_weights(weights, "mixnet_nano", image_size=32).output_shape
        (None, 7)
    """
    input_shape = None if image_size is None else (*checked_size(image_size), 3)
    with open_state_dict(source) as state:
        classes = _classes(state)
        _check_size(state, config, classes)
        model = create_model(
            config,
            classes=classes,
            input_shape=input_shape,
            padding=padding,
            classifier_activation=classifier_activation,
        )
        load_opened(model, state, allow_nan=allow_nan)
    return model


def _check_size(state: StateDict, config: ConfigSource, classes: int) -> None:
    """Refuse a number of classes that the file's other tensors cannot belong to, before the model takes memory."""
    wanted = sum(row.parameters for row in count_stages(load_config(config), image_size=(32, 32), classes=classes))
    numbers = sum(math.prod(shape) for shape in state.shapes.values())
    if wanted > max(numbers, _HARMLESS):  # below it, the names and shapes say better what is wrong
        raise WeightsError(
            f"{state.where}: holds {numbers} numbers, expected the {wanted} of this network with {classes} classes"
        )


def _classes(state: StateDict) -> int:
    """Return the length of the classifier's last bias."""
    scheme, names = recognize(state.shapes, state.where)
    biases = {int(match[1] or 0): name for name in names if (match := re.fullmatch(scheme.classifier, name))}
    shape = state.shapes[names[biases[max(biases)]]] if biases else ()
    if len(shape) != 1 or shape[0] < 1:
        raise WeightsError(
            f"{state.where}: no classifier ({scheme.title}), so the number of classes is unknown; "
            "expected a whole checkpoint (create_model(..., include_top=False) takes a backbone)"
        )
    return shape[0]
