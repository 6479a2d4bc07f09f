"""The layers of MixNet: NHWC, built from ``keras.layers`` and ``keras.ops``, so they run on any Keras backend.

Source of the architecture: MixConv (Tan & Le 2019, arXiv:1907.09595); of the details: NetsPresso Trainer's MixNet.
"""

import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mixnet_tf.batch_norm import BatchNormalization
from mixnet_tf.checks import one_of
from mixnet_tf.config import squeeze_channels
from mixnet_tf.sublayers import (
    CONV,
    PADDINGS,
    Composite,
    Shape,
    Tensor,
    activation_layer,
    built,
    conv_initializer,
    needs_explicit_padding,
    pad_symmetric,
    padded_shape,
)

BLOCK = r"(?:stem|last_conv|stage\d+_block\d+)"
"""Pattern of the name of a block: the stem and the last convolution count as one each."""

HEAD = r"(?:head_dense\d+|head_act\d+|predictions)"
"""Pattern of the name of a layer of the head."""

_IN_PATH = re.compile(rf"/({BLOCK})(?:[_/]|$)")
_AT_START = re.compile(rf"({BLOCK})(?:[_/]|$)")


def block_name(stage: int, block: int) -> str:
    """Return the name of a block's layer; both count from 1.

    >>> block_name(2, 1)
    'stage2_block1'
    """
    return f"stage{stage}_block{block}"


def block_of(name: str) -> str | None:
    """Return the block that a layer, variable or ``.tflite`` tensor of this name belongs to; None for none.

    >>> block_of("stage2_block1/se/reduce/kernel"), block_of("mixnet_s_1/stem_conv_1/Relu"), block_of("predictions")
    ('stage2_block1', 'stem', None)
    """
    match = _IN_PATH.search(name) or _AT_START.match(name)  # a model may be called stem_something, too
    return match[1] if match else None


def numbers_of(name: str) -> tuple[int, ...]:
    """Return the numbers in the name of a layer: stage and block, or the place in the head.

    >>> numbers_of("stage2_block1"), numbers_of("head_dense3"), numbers_of("stem")
    ((2, 1), (3,), ())
    """
    return tuple(int(digits) for digits in re.findall(r"\d+", name))


@keras.saving.register_keras_serializable("mixnet_tf")
class GroupedPointwiseConv2D(Composite):
    """1x1 convolution in `groups` independent groups: one Conv2D per group, on equal channel chunks, concatenated.

    Input and output shape: (batch, height, width, channels).

    Args:
        filters: output channels, a multiple of `groups`.
        groups: number of groups.

    Example:
        >>> GroupedPointwiseConv2D(8, groups=2)(keras.ops.ones((1, 4, 4, 6))).shape
        TensorShape([1, 4, 4, 8])
    """

    def __init__(self, filters: int, groups: int = 1, **kwargs: Any) -> None:
        super().__init__({"filters": filters, "groups": groups}, **kwargs)
        if filters % groups:
            raise ValueError(f"filters={filters} cannot be split into groups={groups} equal parts")
        self.convs = [self.pointwise(filters // groups, f"conv_{i}") for i in range(groups)]

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(f"{channels} input channels cannot be split into groups={self.groups} equal parts")
        for conv in self.convs:
            conv.build((*input_shape[:-1], channels // self.groups))

    def call(self, inputs: Tensor) -> Tensor:
        if self.groups == 1:
            return self.convs[0](inputs)
        chunks = ops.split(inputs, self.groups, axis=-1)
        return ops.concatenate([conv(chunk) for conv, chunk in zip(self.convs, chunks, strict=True)], axis=-1)


@keras.saving.register_keras_serializable("mixnet_tf")
class MixConv2D(Composite):
    """Mixed depthwise convolution: equal channel chunks, each with a kernel size of its own (MixConv, section 3).

    Input shape (batch, height, width, channels); at stride s the output is ceil(height / s) x ceil(width / s).

    Args:
        kernel_sizes: odd kernel sizes, one per branch, in channel order.
        strides: 1 or 2.
        padding: ``"symmetric"`` (k // 2 on every side, as PyTorch) or ``"same"`` (as TensorFlow).

    Example:
        >>> MixConv2D([3, 5, 7], strides=2)(keras.ops.ones((1, 9, 9, 6))).shape
        TensorShape([1, 5, 5, 6])
    """

    def __init__(
        self, kernel_sizes: Sequence[int], strides: int = 1, padding: str = "symmetric", **kwargs: Any
    ) -> None:
        kernel_sizes = [int(size) for size in kernel_sizes]
        super().__init__({"kernel_sizes": kernel_sizes, "strides": strides, "padding": padding}, **kwargs)
        one_of("padding", padding, PADDINGS)
        if not kernel_sizes or any(size % 2 == 0 for size in kernel_sizes):
            raise ValueError(f"kernel_sizes={kernel_sizes}, expected one or more odd sizes")
        self._explicit_padding = needs_explicit_padding(padding, strides)
        self.convs = [
            self.sublayer(
                keras.layers.DepthwiseConv2D,
                size,
                strides=strides,
                padding="valid" if self._explicit_padding else "same",
                depthwise_initializer=conv_initializer(),
                name=f"conv_{i}",
                **CONV,
            )
            for i, size in enumerate(kernel_sizes)
        ]

    def build(self, input_shape: Shape) -> None:
        channels, branches = input_shape[-1], len(self.convs)
        if channels % branches:
            raise ValueError(f"{channels} channels cannot be split between {branches} kernels equally")
        chunk = (*input_shape[:-1], channels // branches)
        for conv, size in zip(self.convs, self.kernel_sizes, strict=True):
            conv.build(padded_shape(chunk, size // 2 if self._explicit_padding else 0))

    def call(self, inputs: Tensor) -> Tensor:
        chunks = ops.split(inputs, len(self.convs), axis=-1) if len(self.convs) > 1 else [inputs]
        if self._explicit_padding:
            chunks = [pad_symmetric(chunk, size // 2) for chunk, size in zip(chunks, self.kernel_sizes, strict=True)]
        outputs = [conv(chunk) for conv, chunk in zip(self.convs, chunks, strict=True)]
        return ops.concatenate(outputs, axis=-1) if len(outputs) > 1 else outputs[0]


@keras.saving.register_keras_serializable("mixnet_tf")
class SqueezeExcite(Composite):
    """Squeeze-and-excitation (arXiv:1709.01507): scale each channel by a function of all channels' global means.

    Input and output shape: (batch, height, width, channels).

    Args:
        reduced_channels: width of the bottleneck.
        act_type: its activation; the gate is a sigmoid.

    Example:
        >>> SqueezeExcite(2, "relu")(keras.ops.ones((1, 4, 4, 8))).shape
        TensorShape([1, 4, 4, 8])
    """

    def __init__(self, reduced_channels: int, act_type: str, **kwargs: Any) -> None:
        super().__init__({"reduced_channels": reduced_channels, "act_type": act_type}, **kwargs)
        self.reduce = self.pointwise(reduced_channels, "reduce", use_bias=True)
        self.act = activation_layer(act_type, name="act", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        batch, channels = input_shape[0], input_shape[-1]
        self.expand = self.pointwise(channels, "expand", use_bias=True)
        self.reduce.build((batch, 1, 1, channels))
        self.act.build((batch, 1, 1, self.reduced_channels))
        self.expand.build((batch, 1, 1, self.reduced_channels))

    def call(self, inputs: Tensor) -> Tensor:
        means = ops.mean(inputs, axis=(1, 2), keepdims=True)
        return inputs * ops.sigmoid(self.expand(self.act(self.reduce(means))))


@keras.saving.register_keras_serializable("mixnet_tf")
class ConvBatchNorm(Composite):
    """Convolution, batch norm, ReLU: the stem (3x3, stride 2) and the last 1x1 convolution.

    Input shape (batch, height, width, channels); at stride s the output is ceil(height / s) x ceil(width / s).
    Batch norm is PyTorch's default here (eps 1e-5, momentum 0.9), unlike inside the blocks.

    Args:
        filters: output channels.
        kernel_size: odd.
        strides: 1 or 2.
        padding: ``"symmetric"`` or ``"same"``, see MixConv2D.

    Example:
        >>> ConvBatchNorm(16, 3, strides=2)(keras.ops.ones((1, 9, 9, 3))).shape
        TensorShape([1, 5, 5, 16])
    """

    def __init__(
        self, filters: int, kernel_size: int, strides: int = 1, padding: str = "symmetric", **kwargs: Any
    ) -> None:
        arguments = {"filters": filters, "kernel_size": kernel_size, "strides": strides, "padding": padding}
        super().__init__(arguments, **kwargs)
        self._explicit_padding = needs_explicit_padding(padding, strides)
        pads = {"strides": strides, "padding": "valid" if self._explicit_padding else "same"}
        settings = CONV | pads | {"kernel_initializer": conv_initializer(), "name": "conv"}
        self.conv = self.sublayer(keras.layers.Conv2D, filters, kernel_size, **settings)
        self.bn = self.sublayer(BatchNormalization, momentum=0.9, epsilon=1e-5, name="bn")
        self.act = activation_layer("relu", name="act", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        self.conv.build(padded_shape(input_shape, self.kernel_size // 2 if self._explicit_padding else 0))
        for layer in (self.bn, self.act):
            layer.build(self.compute_output_shape(input_shape))

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if self._explicit_padding:
            inputs = pad_symmetric(inputs, self.kernel_size // 2)
        return self.act(self.bn(self.conv(inputs), training=training))


@keras.saving.register_keras_serializable("mixnet_tf")
class MixDepthBlock(Composite):
    """Inverted residual with a mixed depthwise convolution and squeeze-and-excitation.

    expand (1x1, grouped) → BN → act → MixConv → BN → act → SE → project (1x1, grouped) → BN, plus the input where
    stride is 1 and the channels match. With `expansion_ratio` 1 there is no expansion. Batch norm: eps 1e-3, momentum
    0.99.

    Input shape (batch, height, width, channels); at stride s the output is ceil(height / s) x ceil(width / s).

    Args:
        filters: output channels.
        kernel_sizes: odd kernel sizes of the depthwise branches.
        expansion_ratio: hidden channels / input channels.
        num_exp_groups: groups of the expansion convolution.
        num_poi_groups: groups of the pointwise (projecting) convolution.
        strides: 1 or 2.
        act_type: activation after expansion and depthwise convolution, and inside SE.
        se_reduction_ratio: block input channels / SE bottleneck channels; None (or at most 1) for no SE.
        dropout_rate: channel dropout on the residual branch, in training, where there is a residual.
        drop_path: share of the images whose residual branch is left out (stochastic depth), likewise.
        padding: ``"symmetric"`` or ``"same"``, see MixConv2D.

    Example:
        >>> block = MixDepthBlock(24, [3, 5], expansion_ratio=6, strides=2, act_type="swish", se_reduction_ratio=2)
        >>> block(keras.ops.ones((1, 16, 16, 16))).shape
        TensorShape([1, 8, 8, 24])
    """

    filters: int
    expand_conv: Any  # these six where the block has them
    expand_bn: Any
    expand_act: Any
    se: Any
    dropout: Any
    drop: Any

    def __init__(
        self,
        filters: int,
        kernel_sizes: Sequence[int],
        *,
        expansion_ratio: int = 1,
        num_exp_groups: int = 1,
        num_poi_groups: int = 1,
        strides: int = 1,
        act_type: str = "relu",
        se_reduction_ratio: float | None = None,
        dropout_rate: float = 0.0,
        drop_path: float = 0.0,
        padding: str = "symmetric",
        **kwargs: Any,
    ) -> None:
        arguments = {
            "filters": filters,
            "kernel_sizes": [int(size) for size in kernel_sizes],
            "expansion_ratio": expansion_ratio,
            "num_exp_groups": num_exp_groups,
            "num_poi_groups": num_poi_groups,
            "strides": strides,
            "act_type": act_type,
            "se_reduction_ratio": se_reduction_ratio,
            "dropout_rate": dropout_rate,
            "drop_path": drop_path,
            "padding": padding,
        }
        super().__init__(arguments, **kwargs)
        # no attributes of the class, which would hide those of a layer on PyTorch
        self.expand_conv = self.expand_bn = self.expand_act = self.se = self.dropout = self.drop = None

    def build(self, input_shape: Shape) -> None:
        in_channels, output_shape = input_shape[-1], self.compute_output_shape(input_shape)
        hidden = in_channels * self.expansion_ratio
        wide, mixed = (*input_shape[:-1], hidden), (*output_shape[:-1], hidden)
        if self.expansion_ratio > 1:
            self.expand_conv = self._part(
                "expand_conv", input_shape, GroupedPointwiseConv2D, hidden, self.num_exp_groups
            )
            self.expand_bn = self._batch_norm("expand_bn", wide)
            self.expand_act = self._activation("expand_act", wide)
        self.depthwise_conv = self._part(
            "depthwise_conv", wide, MixConv2D, self.kernel_sizes, self.strides, self.padding
        )
        self.depthwise_bn = self._batch_norm("depthwise_bn", mixed)
        self.depthwise_act = self._activation("depthwise_act", mixed)
        se_channels = squeeze_channels(in_channels, self.se_reduction_ratio)
        if se_channels:
            self.se = self._part("se", mixed, SqueezeExcite, se_channels, self.act_type)
        self.project_conv = self._part("project_conv", mixed, GroupedPointwiseConv2D, self.filters, self.num_poi_groups)
        self.project_bn = self._batch_norm("project_bn", output_shape)
        self.has_residual = self.strides == 1 and in_channels == self.filters
        if self.has_residual and self.dropout_rate:
            channels = {"data_format": "channels_last", "dtype": self.dtype_policy, "name": "dropout"}
            self.dropout = built(keras.layers.SpatialDropout2D(self.dropout_rate, **channels), output_shape)
        if self.has_residual and self.drop_path:
            self.drop = self._part("drop_path", output_shape, keras.layers.Dropout, self.drop_path, (None, 1, 1, 1))

    def _part(self, name: str, shape: Shape, *layer: Any, **kwargs: Any) -> keras.layers.Layer:
        return built(self.sublayer(*layer, name=name, **kwargs), shape)

    def _batch_norm(self, name: str, shape: Shape) -> keras.layers.Layer:
        return self._part(name, shape, BatchNormalization, momentum=0.99, epsilon=1e-3)

    def _activation(self, name: str, shape: Shape) -> keras.layers.Layer:
        return built(activation_layer(self.act_type, name=name, dtype=self.dtype_policy), shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        x = inputs
        if self.expand_conv is not None:
            x = self.expand_act(self.expand_bn(self.expand_conv(x), training=training))
        x = self.depthwise_act(self.depthwise_bn(self.depthwise_conv(x), training=training))
        if self.se is not None:
            x = self.se(x)
        x = self.project_bn(self.project_conv(x), training=training)
        for dropping in (self.dropout, self.drop):
            x = x if dropping is None else dropping(x, training=training)
        return inputs + x if self.has_residual else x
