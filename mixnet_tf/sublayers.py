"""What MixNet's layers are made of: activations, initial weights, padding, and the base class that they share."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
from keras import ops

from mixnet_tf.batch_norm import BatchNormalization
from mixnet_tf.checks import one_of

Tensor: TypeAlias = keras.KerasTensor
"""What a layer takes and gives: while a model is built a KerasTensor, else a tensor of the backend."""

Shape = tuple[int | None, int | None, int | None, int]
"""(batch, height, width, channels); None where any size goes."""

PADDINGS = ("symmetric", "same")
"""``symmetric`` pads k // 2 on every side (PyTorch); ``same`` is TensorFlow's, which differs where the stride is 2."""

_ACTIVATIONS: Mapping[str, Callable[..., keras.layers.Layer]] = {
    "relu": lambda axes, **kwargs: keras.layers.ReLU(**kwargs),
    "relu6": lambda axes, **kwargs: keras.layers.ReLU(max_value=6.0, **kwargs),
    "prelu": lambda axes, **kwargs: keras.layers.PReLU(
        alpha_initializer=keras.initializers.Constant(0.25), shared_axes=axes, **kwargs
    ),
    "leaky_relu": lambda axes, **kwargs: keras.layers.LeakyReLU(negative_slope=0.01, **kwargs),
    "gelu": lambda axes, **kwargs: keras.layers.Activation("gelu", **kwargs),  # the exact erf form, as in PyTorch
    "silu": lambda axes, **kwargs: keras.layers.Activation("silu", **kwargs),
    "swish": lambda axes, **kwargs: keras.layers.Activation("silu", **kwargs),
    "hard_swish": lambda axes, **kwargs: keras.layers.Activation("hard_silu", **kwargs),
}


def activation_layer(act_type: str, *, rank: int = 4, **kwargs: Any) -> keras.layers.Layer:
    """Return the layer for an ``act_type`` of the YAML.

    Args:
        act_type: one of ``mixnet_tf.config.ACTIVATIONS``.
        rank: rank of the input; PReLU shares its single parameter over all axes but the batch.
        **kwargs: ``name`` and ``dtype`` of the layer.

    Raises:
        ArgumentError: no such activation.

    Example:
        >>> activation_layer("relu6", name="act")(keras.ops.array([-1.0, 3.0, 9.0])).numpy()
        array([0., 3., 6.], dtype=float32)
    """
    return _ACTIVATIONS[one_of("act_type", act_type, _ACTIVATIONS)](list(range(1, rank)), **kwargs)


def conv_initializer() -> keras.initializers.Initializer:
    """The authors' rule: normal, std sqrt(2 / fan_out), with fan_out counted per group.

    NetsPresso ignores groups here, which leaves depthwise kernels sqrt(channels) too small.
    """
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


CONV = {"use_bias": False, "data_format": "channels_last"}
"""What every convolution has in common."""


def needs_explicit_padding(padding: str, strides: int) -> bool:
    """Whether an op of its own pads: at stride 1 "same" *is* symmetric for odd kernels, and one op instead of two."""
    return padding == "symmetric" and strides > 1


def pad_symmetric(inputs: Tensor, size: int) -> Tensor:
    """Add `size` rows and columns of zeros on every side of (batch, height, width, channels)."""
    return ops.pad(inputs, [[0, 0], [size, size], [size, size], [0, 0]])


def padded_shape(shape: Shape, size: int) -> Shape:
    """Return the shape of what `pad_symmetric` gives.

    >>> padded_shape((None, 8, None, 3), 2)
    (None, 12, None, 3)
    """
    batch, *sizes, channels = shape
    height, width = (side if side is None else side + 2 * size for side in sizes)
    return batch, height, width, channels


def built(layer: keras.layers.Layer, shape: Shape) -> keras.layers.Layer:
    """Return a layer with its weights made for inputs of a shape.

    >>> built(keras.layers.Dense(2), (None, 4, 4, 3)).kernel.shape
    TensorShape([3, 2])
    """
    layer.build(shape)
    return layer


class Composite(keras.layers.Layer):
    """A layer made of others: its arguments are attributes and its config; at stride s it gives ceil(size / s) pixels.

    Sublayers follow its dtype policy and trainability: a frozen block that was saved comes back frozen. So does one
    that trains while its batch norms are frozen; ``frozen_batch_norm`` is that state in its config.
    """

    filters: int | None = None  # as many channels as the input has
    strides: int = 1

    def __init__(self, arguments: Mapping[str, Any], **kwargs: Any) -> None:
        self._frozen_batch_norm = bool(kwargs.pop("frozen_batch_norm", False))
        super().__init__(**kwargs)
        self._config = arguments
        for name, value in arguments.items():
            setattr(self, name, value)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, with which ``from_config`` builds the layer again."""
        frozen = [not norm.trainable for norm in self.batch_norms] or [self._frozen_batch_norm]
        state = {"frozen_batch_norm": True} if self.trainable and all(frozen) else {}
        return super().get_config() | self._config | state

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers that it is made of, in the order of the data; ``summary(expand_nested=True)`` shows them."""
        return self._flatten_layers(include_self=False, recursive=False)

    @property
    def batch_norms(self) -> list[keras.layers.BatchNormalization]:
        """Those of its layers that are batch norms; none before it is built."""
        return [layer for layer in self.layers if isinstance(layer, keras.layers.BatchNormalization)]

    def __dir__(self) -> list[str]:
        # Keras saves a layer's weights under the first name that leads to them: lists would rename those in our files
        return [name for name in super().__dir__() if name not in ("layers", "batch_norms")]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the output."""
        batch, *sizes, channels = input_shape
        height, width = (None if size is None else -(-size // self.strides) for size in sizes)
        return batch, height, width, self.filters or channels

    def sublayer(self, layer_class: Callable[..., keras.layers.Layer], *args: Any, **kwargs: Any) -> keras.layers.Layer:
        """Return a new layer that has this one's dtype policy and trainability."""
        frozen = self._frozen_batch_norm and layer_class is BatchNormalization
        return layer_class(*args, dtype=self.dtype_policy, trainable=self.trainable and not frozen, **kwargs)

    def pointwise(self, filters: int, name: str, use_bias: bool = False) -> keras.layers.Layer:
        """Return a new 1x1 convolution."""
        arguments = CONV | {"use_bias": use_bias, "kernel_initializer": conv_initializer(), "name": name}
        return self.sublayer(keras.layers.Conv2D, filters, 1, **arguments)
