"""Weights made elsewhere: load timm's, NetsPresso's and our own state dicts, and write them for timm and NetsPresso.

Loading validates first and assigns last: a model is either changed completely or not at all.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np

from mixnet_tf.checks import one_of, shown
from mixnet_tf.errors import WeightsError
from mixnet_tf.files import check_suffix, whole_file
from mixnet_tf.layers import MixDepthBlock
from mixnet_tf.weights.imagenet import IMAGENET_FILES, imagenet_file
from mixnet_tf.weights.recognition import recognize, shorten
from mixnet_tf.weights.schemes import SCHEMES, Scheme, Slot, model_slots
from mixnet_tf.weights.state_dict import Source, StateDict, open_state_dict

EXPORTS = ("timm", "netspresso")
_Shapes = Mapping[str, tuple[int, ...]]
_FRESH = "head='fresh' keeps the model's own classifier"


def load_weights(model: keras.Model, source: Source, *, head: str = "load", allow_nan: bool = False) -> None:
    """Load weights made by timm, NetsPresso Trainer or this package into a model.

    The names alone tell whose weights they are; prefixes such as ``module.`` or ``backbone.`` are stripped, and of
    several sets the EMA one is taken. The model keeps its epsilons of batch norm: where the source has others (timm:
    1e-5; ``tf_mixnet_*``, for models with ``padding="same"``: 1e-3), gamma is rescaled, which gives the same outputs.

    Args:
        model: built by ``create_model``, ``create_feature_extractor`` or ``MixNetS`` and the like, or a model around
            one. A model without head takes a whole checkpoint, too, and leaves its classifier out.
        source: a file (``.safetensors``, ``.npz``, ``.pth`` or ``.pt`` if PyTorch is installed, ``.keras``,
            ``.weights.h5``), a mapping of names to arrays, or ``"imagenet"`` or ``"imagenet_tf"`` (downloaded once).
        head: what to do with a classifier that is missing or does not fit: ``"load"`` refuses, ``"fresh"`` keeps the
            model's own.
        allow_nan: take NaN, infinities and negative variances, too.

    Raises:
        WeightsError: unreadable, or names missing, unexpected or of another shape: the model is then unchanged.
        ArgumentError: another `head`.

    Example:
        >>> from mixnet_tf import create_model
        >>> model = create_model("mixnet_nano", classes=10, input_shape=(32, 32, 3))
        >>> load_weights(model, export_state_dict(model, names="timm"))
    """
    one_of("head", head, ("load", "fresh"))
    if not isinstance(model, keras.Model):
        raise WeightsError(f"model: found {type(model).__name__}, expected a keras.Model")
    if isinstance(source, str) and source in IMAGENET_FILES:
        _load_imagenet(model, source, head)
        return
    with open_state_dict(source) as state:
        load_opened(model, state, head=head, allow_nan=allow_nan)


def load_opened(model: keras.Model, state: StateDict, *, head: str = "load", allow_nan: bool = False) -> None:
    """Do what ``load_weights`` does, with a state dict that is open already."""
    _check_padding(model, state)
    scheme, names = recognize(state.shapes, state.where)
    slots = _matching_slots(model, scheme, {name: state.shapes[names[name]] for name in names}, state.where, head)
    _check_values(slots, names, state, allow_nan)
    for slot in slots:  # read once more rather than kept: it halves the memory
        slot.variable.assign(_to_ours(slot, names, state))


def _check_padding(model: keras.Model, state: StateDict) -> None:
    """Refuse a ``.keras`` file with the other padding: its weights would fit and give other numbers."""
    ours = {layer.padding for layer in model._flatten_layers() if isinstance(layer, MixDepthBlock)}
    if state.paddings and ours and state.paddings != ours:
        theirs, (padding, *_) = " and ".join(map(shown, state.paddings)), ours
        raise WeightsError(f"{state.where}: its padding is {theirs}, the model's is {padding!r}; use the same")


def _load_imagenet(model: keras.Model, weights: str, head: str) -> None:
    _, slots = model_slots(model, SCHEMES["timm"])
    if head == "load" and (slots is None or any(slot.shape[0] != 1000 for slot in slots)):
        raise WeightsError(
            f"weights={weights!r}: its classifier has one layer and 1000 classes, the model's is another; use "
            f"include_top=False, or load_weights(model, {weights!r}, head='fresh')"
        )
    with imagenet_file(model, weights) as path:
        load_weights(model, path, head=head)


def _matching_slots(model: keras.Model, scheme: Scheme, shapes: _Shapes, where: str, head: str) -> list[Slot]:
    """Return the slots to fill; raise unless every one has its tensor and every tensor its slot."""
    slots, head_slots = model_slots(model, scheme)
    in_head = {name: shape for name, shape in shapes.items() if re.match(scheme.head, name)}
    tensors = {name: shape for name, shape in shapes.items() if name not in in_head}
    if head_slots is None and head == "load":
        raise WeightsError(f"{where}: {scheme.title} have no place for a head of several layers; {_FRESH}")
    hint = ""
    if head_slots:  # neither a model without head nor a head that the source has no names for
        fits = in_head == {slot.name: slot.shape for slot in head_slots}
        if fits or head == "load":
            slots, tensors = slots + head_slots, tensors | in_head
            hint = "" if fits else f"; {_FRESH}"
    problems = _differences({slot.name: slot.shape for slot in slots}, tensors)
    if problems:
        raise WeightsError(f"{where} ({scheme.title}): {'; '.join(problems)}{hint}")
    return slots


def _differences(expected: _Shapes, given: _Shapes) -> list[str]:
    def listed(what: str, names: Iterable[str]) -> list[str]:
        names = list(names)
        return [f"{len(names)} {what}: {shorten(names)}"] if names else []

    wrong = {name: shape for name, shape in expected.items() if name in given and given[name] != shape}
    return [
        *listed("missing", (name for name in expected if name not in given)),
        *listed("unexpected", (name for name in given if name not in expected)),
        *listed("of another shape", (f"{name} {given[name]} instead of {shape}" for name, shape in wrong.items())),
    ]


def _check_values(slots: list[Slot], names: Mapping[str, str], state: StateDict, allow_nan: bool) -> None:
    """Read every tensor once, so that nothing can fail half-way through the assignment."""
    bad = []
    for slot in slots:
        value = _to_ours(slot, names, state)
        negative = slot.variable.name == "moving_variance" and (value < 0).any()
        if negative or not np.isfinite(value).all():
            bad.append(names[slot.name])
    if bad and not allow_nan:
        raise WeightsError(
            f"{state.where}: {len(bad)} with NaN, infinity or a negative variance: {shorten(bad)}; "
            "expected finite numbers (allow_nan=True takes them as they are)"
        )


def _to_ours(slot: Slot, names: Mapping[str, str], state: StateDict) -> np.ndarray:
    """Return the value of a slot's variable, in float32."""
    array = state.read(names[slot.name])
    with np.errstate(all="ignore"):  # what comes out NaN or infinite is reported by name
        if slot.variance is not None:
            array = _rescale(array, state.read(names[slot.variance]), *slot.epsilons)
        return np.transpose(array, slot.axes).astype(np.float32, copy=False).reshape(slot.variable.shape)


def _rescale(gamma: np.ndarray, variance: np.ndarray, epsilon: float, new_epsilon: float) -> np.ndarray:
    """Return the scale that gives the same batch norm with `new_epsilon`, computed in float64."""
    variance = variance.astype(np.float64)
    return gamma * np.sqrt((variance + new_epsilon) / (variance + epsilon))


def export_state_dict(
    model: keras.Model, names: str, path: str | Path | None = None, *, overwrite: bool = False
) -> dict[str, np.ndarray]:
    """Return the weights as timm or NetsPresso Trainer name and lay them out; write them, if `path` is given.

    The reverse of ``load_weights``: batch-norm scales are rescaled to timm's epsilon (that of ``tf_mixnet_*`` for a
    model with ``padding="same"``), and loading the result again gives the same weights.

    Args:
        model: built by this package, with or without head.
        names: ``"timm"`` (``timm.create_model("mixnet_s").load_state_dict``) or ``"netspresso"`` (a whole checkpoint:
            ``backbone.…`` and ``head.…``).
        path: a ``.safetensors`` file to write.
        overwrite: replace `path` if it exists.

    Returns:
        float32 arrays by name, and ``num_batches_tracked`` counters of zero (int64).

    Raises:
        WeightsError: no MixNet, or a head of several layers for timm.
        ArgumentError: unknown `names`.
        MixNetError: the file exists or cannot be written.

    Example:
        >>> from mixnet_tf import create_model
        >>> model = create_model("mixnet_nano", classes=10)
        >>> export_state_dict(model, names="timm")["conv_stem.weight"].shape
        (8, 3, 3, 3)
    """
    scheme = SCHEMES[one_of("names", names, EXPORTS)]
    backbone, head = model_slots(model, scheme)
    if head is None:
        raise WeightsError(f"model {model.name!r}: {scheme.title} have no place for a head of several layers")
    variances = {slot.name: slot.variable for slot in backbone}
    tensors = {f"{scheme.prefix}{slot.name}": _to_theirs(slot, variances) for slot in backbone}
    tensors |= {slot.name: _to_theirs(slot, variances) for slot in head}
    for name in [name for name in tensors if name.endswith(".running_var")]:
        tensors[f"{name.removesuffix('running_var')}num_batches_tracked"] = np.zeros((), np.int64)
    if path is not None:
        _write_safetensors(tensors, Path(path), overwrite=overwrite)
    return tensors


def _to_theirs(slot: Slot, variables: Mapping[str, keras.Variable]) -> np.ndarray:
    array = slot.variable.numpy()
    if slot.variance is not None:
        array = _rescale(array, variables[slot.variance].numpy(), *reversed(slot.epsilons))
    array = array.reshape(array.shape[-len(slot.axes) :])  # PReLU's (1, 1, 1)
    return np.array(array.transpose(np.argsort(slot.axes)), np.float32, order="C")  # safetensors ignores strides


def _write_safetensors(tensors: dict[str, np.ndarray], path: Path, *, overwrite: bool) -> None:
    from safetensors.numpy import save

    check_suffix(path, ".safetensors")
    with whole_file(path, overwrite=overwrite) as part:
        # save_file would make it readable by its owner alone, whatever the umask
        part.write_bytes(save(tensors, metadata={"format": "pt"}))
