"""MixNet as a functional Keras model: stem, the blocks of every stage, last convolution, head.

Inputs are NHWC float RGB images, normalized as ``preprocess_input`` does (ImageNet mean and standard deviation).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from mixnet_tf.config import LAST_CONV_FILTERS, HeadParams, ModelConfig, expand_blocks, load_config, scale_channels
from mixnet_tf.errors import MixNetError
from mixnet_tf.layers import PADDINGS, ConvBatchNorm, MixDepthBlock, activation_layer
from mixnet_tf.weights.loading import load_weights

ConfigSource = ModelConfig | str | Path | Mapping


def _stages(inputs, config: ModelConfig, padding: str) -> Iterator:
    """Yield the output of every stage; the last stage ends with the 1x1 convolution to 1536 channels."""
    backbone = config.architecture.backbone
    params = backbone.params
    stages = expand_blocks(backbone)
    x = ConvBatchNorm(scale_channels(params.stem_channels, params.wid_mul), 3, 2, padding, name="stem")(inputs)
    for s, blocks in enumerate(stages, start=1):
        for b, block in enumerate(blocks, start=1):
            x = MixDepthBlock(
                block.out_channels,
                block.kernel_sizes,
                expansion_ratio=block.expansion_ratio,
                num_exp_groups=block.num_exp_groups,
                num_poi_groups=block.num_poi_groups,
                strides=block.stride,
                act_type=block.act_type,
                se_reduction_ratio=block.se_reduction_ratio,
                dropout_rate=params.dropout_rate,
                padding=padding,
                name=f"stage{s}_block{b}",
            )(x)
        if s == len(stages):
            x = ConvBatchNorm(LAST_CONV_FILTERS, 1, name="last_conv")(x)
        yield x


def _classifier(x, head: HeadParams, classes: int, activation: str | None):
    for i in range(1, head.num_layers):
        x = keras.layers.Dense(head.intermediate_channels, name=f"head_dense{i}")(x)
        x = activation_layer(head.act_type, rank=2, name=f"head_act{i}")(x)
    if head.dropout_prob:
        x = keras.layers.Dropout(head.dropout_prob, name="head_dropout")(x)
    # float32 whatever the policy: a softmax or loss in half precision loses the small probabilities
    return keras.layers.Dense(classes, activation=activation, dtype="float32", name="predictions")(x)


_POOLING_LAYERS = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}


def create_model(
    config: ConfigSource,
    *,
    classes: int = 1000,
    input_shape: tuple[int | None, int | None, int] | None = None,
    include_top: bool = True,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    weights: str | Path | None = None,
    padding: str = "symmetric",
    input_tensor=None,
    name: str | None = None,
) -> keras.Model:
    """Build a MixNet classifier, or its backbone, from a configuration.

    Args:
        config: a shipped name (``"mixnet_s"``), a YAML path, a mapping or a ModelConfig.
        classes: number of classes of the head.
        input_shape: (height, width, channels) without the batch; height and width may be None. Default
            (None, None, 3): any size, odd and not square included.
        include_top: False leaves out pooling and head.
        pooling: without head: None gives the (batch, h, w, 1536) map, ``"avg"`` or ``"max"`` a (batch, 1536) vector.
        classifier_activation: activation of the last layer, or None for logits.
        weights: None for fresh weights, ``"imagenet"``, ``"imagenet_tf"``, or a file for ``load_weights``.
        padding: ``"symmetric"`` (PyTorch, the default) or ``"same"`` (TensorFlow; what ``"imagenet_tf"`` needs).
        input_tensor: a Keras tensor to use as the input.
        name: name of the model; default: the name in the configuration.

    Returns:
        A functional ``keras.Model``: float images (batch, height, width, 3), normalized with ``preprocess_input``, to
        (batch, classes).

    Raises:
        ConfigError: the configuration does not describe a MixNet.
        WeightsError: the weights do not fit.

    Example:
        >>> model = create_model("mixnet_nano", classes=10, input_shape=(32, 32, 3))
        >>> model.output_shape
        (None, 10)
    """
    config = load_config(config)
    _check_arguments(classes, pooling, padding, include_top)
    _check_activation(classifier_activation)
    inputs = _input(input_shape, input_tensor)
    *_, x = _stages(inputs, config, padding)
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="avg_pool")(x)
        dropout_rate = config.architecture.backbone.params.dropout_rate
        if dropout_rate:
            x = keras.layers.Dropout(dropout_rate, name="dropout")(x)
        x = _classifier(x, config.architecture.head.params, int(classes), classifier_activation)
    elif pooling:
        x = _POOLING_LAYERS[pooling](data_format="channels_last", name=f"{pooling}_pool")(x)
    return _finish(inputs, x, input_tensor, name or config.name, weights)


def create_feature_extractor(
    config: ConfigSource,
    *,
    input_shape: tuple[int | None, int | None, int] | None = None,
    weights: str | Path | None = None,
    padding: str = "symmetric",
    input_tensor=None,
    name: str | None = None,
) -> keras.Model:
    """Build the backbone with the output of every stage, for dense heads (detection, segmentation).

    The shipped S, M, L and XL give strides 4, 8, 16 and 32. Channels: S 24, 40, 120, 1536; M 32, 40, 120, 1536;
    L 40, 56, 160, 1536; XL 48, 64, 192, 1536. The last output is taken after the 1536-channel convolution.

    Args:
        config: a shipped name (``"mixnet_s"``), a YAML path, a mapping or a ModelConfig.
        input_shape: (height, width, channels) without the batch; height and width may be None (the default).
        weights: None for fresh weights, ``"imagenet"``, ``"imagenet_tf"``, or a file for ``load_weights``.
        padding: ``"symmetric"`` (PyTorch, the default) or ``"same"`` (TensorFlow).
        input_tensor: a Keras tensor to use as the input.
        name: name of the model; default: the name in the configuration and ``_features``.

    Returns:
        A functional ``keras.Model`` with a list of outputs, one (batch, h, w, channels) map a stage.

    Raises:
        ConfigError: the configuration does not describe a MixNet.
        WeightsError: the weights do not fit.

    Example:
        >>> [shape[1:] for shape in create_feature_extractor("mixnet_s", input_shape=(64, 96, 3)).output_shape]
        [(16, 24, 24), (8, 12, 40), (4, 6, 120), (2, 3, 1536)]
    """
    config = load_config(config)
    _check_arguments(1, None, padding, False)
    inputs = _input(input_shape, input_tensor)
    outputs = list(_stages(inputs, config, padding))
    return _finish(inputs, outputs, input_tensor, name or f"{config.name}_features", weights)


def _check_arguments(classes: int, pooling: str | None, padding: str, include_top: bool) -> None:
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 1:
        raise MixNetError(f"classes={classes!r}, expected a positive integer")
    if pooling is not None and pooling not in list(_POOLING_LAYERS):
        raise MixNetError(f"pooling={pooling!r}, expected None, {' or '.join(map(repr, _POOLING_LAYERS))}")
    if pooling is not None and include_top:
        raise MixNetError(f"pooling={pooling!r} goes with include_top=False: the head pools by itself")
    if padding not in PADDINGS:
        raise MixNetError(f"padding={padding!r}, expected {' or '.join(map(repr, PADDINGS))}")


def _check_activation(activation) -> None:
    try:
        keras.activations.get(activation)
    except Exception as error:  # ValueError for an unknown name, others for what is no name
        expected = "None, 'softmax' or another activation of Keras"
        raise MixNetError(f"classifier_activation={activation!r}, expected {expected}") from error


def _input(input_shape, input_tensor):
    if input_tensor is not None:
        return input_tensor if keras.backend.is_keras_tensor(input_tensor) else keras.Input(tensor=input_tensor)
    shape = (None, None, 3) if input_shape is None else input_shape
    if not (isinstance(shape, Sequence) and len(shape) == 3 and shape[-1] and all(map(_is_size, shape))):
        raise MixNetError(f"input_shape={input_shape!r}, expected (height, width, channels), height and width or None")
    return keras.Input(tuple(shape), name="image")


def _is_size(value: object) -> bool:
    return value is None or (isinstance(value, int | np.integer) and value >= 1)


def _finish(inputs, outputs, input_tensor, name: str, weights) -> keras.Model:
    source = inputs if input_tensor is None else keras.utils.get_source_inputs(input_tensor)[0]
    model = keras.Model(source, outputs, name=name)
    if weights is not None:
        load_weights(model, weights)
    return model


def _named(config: str):
    """Return the keras.applications-style constructor of a shipped configuration."""

    def build(
        include_top: bool = True,
        weights: str | Path | None = None,
        input_tensor=None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        name: str | None = None,
    ) -> keras.Model:
        return create_model(
            config,
            classes=classes,
            input_shape=input_shape,
            include_top=include_top,
            pooling=None if include_top else pooling,
            classifier_activation=classifier_activation,
            weights=weights,
            padding="same" if weights == "imagenet_tf" else "symmetric",
            input_tensor=input_tensor,
            name=name,
        )

    size = config.removeprefix("mixnet_").upper()
    build.__name__ = build.__qualname__ = f"MixNet{size}"
    build.__doc__ = f"""MixNet-{size} with the signature of ``keras.applications``; arguments as in ``create_model``.

    Input: float RGB (batch, height, width, 3), normalized with ``preprocess_input``. ``weights`` may be None,
    ``"imagenet"``, ``"imagenet_tf"`` (S, M, L) or a file. Source: arXiv:1907.09595.

    Example:
        >>> MixNet{size}(include_top=False, pooling="avg", input_shape=(64, 64, 3)).output_shape
        (None, 1536)
    """
    return build


MixNetS, MixNetM, MixNetL, MixNetXL = map(_named, ("mixnet_s", "mixnet_m", "mixnet_l", "mixnet_xl"))
