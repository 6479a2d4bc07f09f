"""A MixNet in Keras' own layers, which load without this package, and back: blocks of layers are what deploys best."""

import collections
import functools
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras

from mixnet_tf.batch_norm import builtin_class
from mixnet_tf.config import ACTIVATIONS
from mixnet_tf.deploy.graphs import IDLE, check_builtin, check_float, copied, functional, rewired
from mixnet_tf.layers import BLOCK, ConvBatchNorm, MixDepthBlock
from mixnet_tf.progress.steps import step as shown_step
from mixnet_tf.sublayers import Composite, Tensor, activation_layer

_FREE = ("name", "trainable", "dtype", "momentum")
"""Fields in which the layers of a block may differ from those that the block would have."""

Caller = Callable[[keras.layers.Layer, str], Callable[..., Any]]
"""From a layer in a composite one, and its name outside of that, to what is called in its place."""


# -- there ----------------------------------------------------------------------------------------------------------


@shown_step("take the blocks apart")
def to_builtin(model: keras.Model) -> keras.Model:
    """Return an equal model of Keras' own layers: ``keras.models.load_model`` reads it without this package.

    It trains as the original does: batch norm and dropout are layers of their own, and what is frozen stays so. What
    gave the features keeps its name: ``stage3_block2``, ``last_conv``. ``export`` makes the same files of both.

    Given, with kernels 3 and 5, as one layer::

        x (n, 8, 8, 4) ─> stage1_block2 (n, 8, 8, 4)

    Result::

        x ─> stage1_block2_expand_conv_conv_0 (n, 8, 8, 8) ─> ..._expand_bn ─> ..._expand_act ─> ..._split
          ─> ..._depthwise_conv_conv_0 and 1: 2 x (n, 8, 8, 4) ─> ..._concatenate (n, 8, 8, 8) ─> ..._depthwise_bn
          ─> ..._depthwise_act ─> ..._project_conv_conv_0 (n, 8, 8, 4) ─> ..._project_bn ─> ..._add: + x
          ─> stage1_block2: identity

    Args:
        model: a functional or Sequential model of MixNet's layers and Keras' own, nested ones included.

    Returns:
        A model with weights of its own, to be compiled: images (batch, height, width, channels) as the original takes
        them, to its outputs.

    Raises:
        DeployError: not a functional float model, or a layer that is neither MixNet's nor Keras' own.

    Example:
        >>> from mixnet_tf import create_model
        >>> model = to_builtin(create_model("mixnet_nano", classes=10, input_shape=(32, 32, 3)))
        >>> model.get_layer("last_conv").output.shape
        (None, 4, 4, 1536)
        >>> model.save("/tmp/anywhere.keras")  # for keras.models.load_model, with or without this package
    """
    check_float(model, "take apart")
    return _Unfolding().model(model)


class _Unfolding:
    """Copies of layers and models, one of each, and names that nothing else has."""

    def __init__(self) -> None:
        self._copies: dict[int, Callable[..., Any]] = {}
        self._names = collections.Counter[str]()

    def model(self, model: keras.Model) -> keras.Model:
        return keras.models.clone_model(functional(model), clone_function=lambda layer: layer, call_function=self._call)

    def _call(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer):
            return layer(*args, **kwargs)
        if not isinstance(layer, Composite):
            return self._copy(layer, layer.name)(*args, **kwargs)
        output = unfolded(layer, layer.name, self._copy, *args, **kwargs)
        for operation, _ in _steps(output, args[0]):
            if not isinstance(operation, keras.layers.Layer):  # Keras' name is one that a user's next may have
                operation.name = self._unique(f"{layer.name}_{type(operation).__name__.lower()}")
        last = self._copies.setdefault(id(layer), keras.layers.Identity(name=layer.name, dtype=layer.dtype_policy.name))
        return last(output)

    def _copy(self, layer: keras.layers.Layer, name: str) -> Callable[..., Any]:
        if id(layer) not in self._copies:
            if isinstance(layer, keras.Model):
                self._copies[id(layer)] = self.model(layer)
            else:
                check_builtin(layer)
                self._copies[id(layer)] = copied(layer, name=name)
        return self._copies[id(layer)]

    def _unique(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}_{self._names[name]}"


def unfolded(layer: Composite, name: str, caller: Caller, *args: Any, **kwargs: Any) -> Tensor:
    """Run the ``call`` of a composite layer with other layers in place of its own.

    Args:
        layer: built.
        name: what the names of its layers begin with.
        caller: of the layers that are not composite.
        *args: what it is called with.
        **kwargs: likewise.
    """
    return type(layer).call(_Opened(layer, name, caller), *args, **kwargs)


class _Opened:
    """What a composite layer is to its own ``call``, with other layers in place of its own."""

    def __init__(self, layer: Composite, name: str, caller: Caller) -> None:
        self._layer, self._name, self._caller = layer, name, caller

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._layer, attribute)
        return [self._entry(part) for part in value] if isinstance(value, list) else self._entry(value)

    def _entry(self, value: Any) -> Any:
        if not isinstance(value, keras.layers.Layer):
            return value
        name = f"{self._name}_{value.name}"
        if isinstance(value, Composite):
            return functools.partial(unfolded, value, name, self._caller)
        return self._caller(value, name)


def _steps(output: Tensor, source: Tensor) -> list[tuple[Any, tuple[Any, ...]]]:
    """Return the operations that lead from `source` to `output`, in order, each with the places of what it reads.

    A place is that of an operation in the list and the number of its output; ``()`` stands for the source.
    """
    places: dict[int, tuple[int, ...]] = {id(source): ()}
    steps: list[tuple[Any, tuple[Any, ...]]] = []

    def place(tensor: Tensor) -> tuple[int, ...]:
        if id(tensor) not in places:
            operation, index, _ = tensor._keras_history
            node = operation._inbound_nodes[index]
            steps.append((operation, tuple(map(place, node.input_tensors))))
            places.update((id(result), (len(steps) - 1, i)) for i, result in enumerate(node.output_tensors))
        return places[id(tensor)]

    place(output)
    return steps


# -- and back -------------------------------------------------------------------------------------------------------


def to_blocks(model: keras.Model, only: str = BLOCK) -> keras.Model:
    """Return the model with a block for the layers of each that ``to_builtin`` took apart, where they are unchanged.

    The inverse of ``to_builtin``, for models of one input; nested ones stay as they are.

    Args:
        model: functional or Sequential.
        only: pattern of the names of blocks.
    """
    ends = [layer for layer in model.layers if isinstance(layer, keras.layers.Identity)]
    ends = [layer for layer in ends if re.fullmatch(only, layer.name)]
    if not ends:
        return model
    image = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype, name=model.inputs[0].name)
    return rewired(model, image, call_function=functools.partial(_fold, ends))


def _fold(ends: Collection[keras.layers.Layer], layer: Any, *args: Any, **kwargs: Any) -> Any:
    """Call the block that ends in `layer`, if there is one; the call function of ``keras.models.clone_model``."""
    if layer not in ends:
        return layer(*args, **kwargs)
    source = _source(args[0], f"{layer.name}_")
    steps = _steps(args[0], source)
    try:
        block = _block({step.name.removeprefix(f"{layer.name}_"): step for step, _ in steps}, layer.name, source)
        block.build(source.shape)
    except (LookupError, AttributeError, ValueError):  # these layers are no block, whatever they are called
        return layer(*args, **kwargs)
    twins = _steps(unfolded(block, layer.name, lambda part, _: part, source), source)
    if list(map(_meaning, twins)) != list(map(_meaning, steps)):
        return layer(*args, **kwargs)
    for (part, _), (twin, _) in zip(steps, twins, strict=True):
        if isinstance(twin, keras.layers.Layer):
            twin.set_weights(part.get_weights())
    return block(source)


def _source(output: Tensor, prefix: str) -> Tensor:
    """Return what the operations read that lead to `output` and have names with this prefix."""
    tensor = output
    while tensor._keras_history.operation.name.startswith(prefix):
        operation, index, _ = tensor._keras_history
        tensor = operation._inbound_nodes[index].input_tensors[0]
    return tensor


def _block(parts: Mapping[str, Any], name: str, source: Tensor) -> Composite:
    """Return the block that would have these operations, by their names in it."""
    if "depthwise_bn" not in parts:
        conv = parts["conv"]
        return ConvBatchNorm(conv.filters, conv.kernel_size[0], conv.strides[0], _padding(conv), name=name)
    expand, depthwise, project = (
        [part for key, part in parts.items() if key.startswith(f"{kind}_conv_conv_")]
        for kind in ("expand", "depthwise", "project")
    )
    channels, hidden = source.shape[-1], parts["depthwise_bn"].moving_mean.shape[0]
    return MixDepthBlock(
        sum(conv.filters for conv in project),
        [conv.kernel_size[0] for conv in depthwise],
        expansion_ratio=hidden // channels,
        num_exp_groups=len(expand) or 1,
        num_poi_groups=len(project),
        strides=depthwise[0].strides[0],
        act_type=_act_type(parts["depthwise_act"]),
        se_reduction_ratio=channels / (parts["se_reduce"].filters + 0.5) if "se_reduce" in parts else None,
        dropout_rate=parts["dropout"].rate if "dropout" in parts else 0.0,
        drop_path=parts["drop_path"].rate if "drop_path" in parts else 0.0,
        padding=_padding(depthwise[0]),
        name=name,
    )


def _padding(conv: Any) -> str:
    return "same" if conv.strides[0] > 1 and conv.padding == "same" else "symmetric"


def _act_type(layer: Any) -> str:
    """Return the ``act_type`` of an activation; ValueError where it is none."""
    for act_type in ACTIVATIONS:
        if _meaning((activation_layer(act_type), ())) == _meaning((layer, ())):
            return act_type
    raise ValueError(f"{layer.name} is no act_type")


def _meaning(step: tuple[Any, tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return what two steps have in common that compute the same of the same."""
    operation, places = step
    config = operation.get_config()
    fields = {key: value for key, value in config.items() if key not in _FREE and not key.endswith(IDLE)}
    return builtin_class(operation), json.dumps(fields, sort_keys=True, default=str), places  # files have lists only
