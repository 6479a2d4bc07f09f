"""MixNet as a functional Keras model: stem, the blocks of every stage, last convolution, head.

Inputs are NHWC RGB images with pixels from 0 to 255, which the first layer normalizes with ImageNet's mean and standard
deviation. With ``include_preprocessing=False`` they are normalized images, as ``preprocess_input`` makes them.

The layers are ``image``, ``preprocessing``, ``stem``, ``stage1_block1`` and so on, ``last_conv``, ``avg_pool`` and
``predictions``. A block gives a map of features (batch, height, width, channels). Grad-CAM takes the last one:

    >>> import tensorflow as tf
    >>> model = create_model("mixnet_nano", classes=10, classifier_activation=None, input_shape=(64, 64, 3))
    >>> images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    >>> maps = keras.Model(model.input, [model.get_layer("last_conv").output, model.output])
    >>> with tf.GradientTape() as tape:
    ...     features, logits = maps(images)
    ...     best = tf.reduce_max(logits, axis=-1)
    >>> weights = tf.reduce_mean(tape.gradient(best, features), axis=(1, 2), keepdims=True)
    >>> heat = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))
    >>> heat.shape
    TensorShape([2, 8, 8])
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np

from mixnet_tf.checks import complaint, integer, number, one_of
from mixnet_tf.config import LAST_CONV_FILTERS, HeadParams, ModelConfig, expand_blocks, load_config, scale_channels
from mixnet_tf.data.choices import IMAGE_SIZE
from mixnet_tf.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from mixnet_tf.errors import ArgumentError
from mixnet_tf.layers import ConvBatchNorm, MixDepthBlock, block_name
from mixnet_tf.sublayers import PADDINGS, Tensor, activation_layer
from mixnet_tf.weights.loading import load_weights

ConfigSource = ModelConfig | str | Path | Mapping
"""A shipped name (``"mixnet_s"``), a YAML path, a mapping or a ModelConfig."""

InputShape = tuple[int | None, int | None, int]
"""(height, width, channels) in pixels, without the batch; None where any size goes."""


def _stages(inputs: Tensor, config: ModelConfig, padding: str, drop_path: float = 0.0) -> Iterator[Tensor]:
    """Yield the output of every stage; the last stage ends with the 1x1 convolution to 1536 channels."""
    backbone = config.architecture.backbone
    params = backbone.params
    stages = expand_blocks(backbone)
    x = ConvBatchNorm(scale_channels(params.stem_channels, params.wid_mul), 3, 2, padding, name="stem")(inputs)
    rates = iter(np.linspace(0, drop_path, sum(map(len, stages)), endpoint=False).tolist())  # as in timm
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
                drop_path=next(rates),
                padding=padding,
                name=block_name(s, b),
            )(x)
        if s == len(stages):
            x = ConvBatchNorm(LAST_CONV_FILTERS, 1, name="last_conv")(x)
        yield x


def _classifier(x: Tensor, head: HeadParams, classes: int, activation: str | None) -> Tensor:
    for i in range(1, head.num_layers):
        x = keras.layers.Dense(head.intermediate_channels, name=f"head_dense{i}")(x)
        assert head.act_type is not None  # ModelConfig saw to it
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
    input_shape: InputShape | None = None,
    include_top: bool = True,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    weights: str | Path | None = None,
    padding: str = "symmetric",
    input_tensor: Tensor | None = None,
    include_preprocessing: bool = True,
    drop_path: float = 0.0,
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
        include_preprocessing: the model takes pixels from 0 to 255 and normalizes them; False: it takes what
            ``preprocess_input`` makes of them.
        drop_path: in training, the residual branch of the last block is left out for nearly so many images (stochastic
            depth, arXiv:1603.09382), that of the first for none.
        name: name of the model; default: the name in the configuration.

    Returns:
        A functional ``keras.Model``: images (batch, height, width, 3), pixels from 0 to 255, to (batch, classes).

    Raises:
        ArgumentError: an argument is none of its values.
        ConfigError: the configuration does not describe a MixNet.
        WeightsError: the weights do not fit.

    Example:
        >>> model = create_model("mixnet_nano", classes=10, input_shape=(32, 32, 3))
        >>> model.output_shape
        (None, 10)
    """
    config = load_config(config)
    classes = integer("classes", classes, 1)
    _check_pooling(pooling, include_top)
    _check_activation(classifier_activation)
    inputs = _input(input_shape, input_tensor)
    x = _normalized(inputs) if include_preprocessing else inputs
    drop_path = number("drop_path", drop_path, 0, 0.99)
    *_, x = _stages(x, config, one_of("padding", padding, PADDINGS), drop_path)
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="avg_pool")(x)
        dropout_rate = config.architecture.backbone.params.dropout_rate
        if dropout_rate:
            x = keras.layers.Dropout(dropout_rate, name="dropout")(x)
        x = _classifier(x, config.architecture.head.params, classes, classifier_activation)
    elif pooling:
        x = _POOLING_LAYERS[pooling](data_format="channels_last", name=f"{pooling}_pool")(x)
    return _finish(inputs, x, input_tensor, name or config.name, weights)


def create_feature_extractor(
    config: ConfigSource,
    *,
    input_shape: InputShape | None = None,
    weights: str | Path | None = None,
    padding: str = "symmetric",
    input_tensor: Tensor | None = None,
    include_preprocessing: bool = True,
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
        include_preprocessing: the model takes pixels from 0 to 255 and normalizes them; False: it takes what
            ``preprocess_input`` makes of them.
        name: name of the model; default: the name in the configuration and ``_features``.

    Returns:
        A functional ``keras.Model`` with a list of outputs, one (batch, h, w, channels) map per stage.

    Raises:
        ArgumentError: an argument is none of its values.
        ConfigError: the configuration does not describe a MixNet.
        WeightsError: the weights do not fit.

    Example:
        >>> [shape[1:] for shape in create_feature_extractor("mixnet_s", input_shape=(64, 96, 3)).output_shape]
        [(16, 24, 24), (8, 12, 40), (4, 6, 120), (2, 3, 1536)]
    """
    config = load_config(config)
    inputs = _input(input_shape, input_tensor)
    x = _normalized(inputs) if include_preprocessing else inputs
    outputs = list(_stages(x, config, one_of("padding", padding, PADDINGS)))
    return _finish(inputs, outputs, input_tensor, name or f"{config.name}_features", weights)


def _check_pooling(pooling: str | None, include_top: bool) -> None:
    if pooling is None:
        return
    one_of("pooling", pooling, _POOLING_LAYERS)
    if include_top:
        raise ArgumentError(f"pooling={pooling!r} goes with include_top=False: the head pools by itself")


def _check_activation(activation: str | None) -> None:
    try:
        keras.activations.get(activation)
    except Exception as error:  # ValueError for an unknown name, others for what is no name
        expected = "None, 'softmax' or another activation of Keras"
        raise ArgumentError(complaint("classifier_activation", activation, expected)) from error


def _input(input_shape: InputShape | None, input_tensor: Tensor | None) -> Tensor:
    if input_tensor is not None:
        return input_tensor if keras.backend.is_keras_tensor(input_tensor) else keras.Input(tensor=input_tensor)
    return keras.Input((None, None, 3) if input_shape is None else _checked(input_shape), name="image")


def _checked(input_shape: object) -> InputShape:
    sizes = input_shape if isinstance(input_shape, tuple | list) else ()
    try:
        height, width = (size if size is None else integer("input_shape", size, 1) for size in sizes[:-1])
        return height, width, integer("input_shape", sizes[-1], 1)
    except ValueError:  # ArgumentError is one; so is a wrong count of sizes
        expected = "(height, width, channels), height and width or None"
        raise ArgumentError(complaint("input_shape", input_shape, expected)) from None


def _normalized(pixels: Tensor) -> Tensor:
    """Normalize pixels from 0 to 255 as ``preprocess_input`` does, in float32 whatever the policy."""
    if pixels.shape[-1] != len(IMAGENET_MEAN):
        raise ArgumentError(
            f"include_preprocessing: needs RGB images, found {pixels.shape[-1]} channels; give "
            "include_preprocessing=False and normalize them yourself"
        )
    mean, variance = 255 * np.array(IMAGENET_MEAN), np.square(255 * np.array(IMAGENET_STD))
    layer = keras.layers.Normalization(
        axis=-1, mean=mean.tolist(), variance=variance.tolist(), dtype="float32", name="preprocessing"
    )
    return layer(pixels)


def _finish(
    inputs: Tensor, outputs: Tensor, input_tensor: Tensor | None, name: str, weights: str | Path | None
) -> keras.Model:
    source = inputs if input_tensor is None else keras.utils.get_source_inputs(input_tensor)[0]
    model = keras.Model(source, outputs, name=name)
    if weights is not None:
        load_weights(model, weights)
    return model


def _named(config: str) -> Callable[..., keras.Model]:
    """Return the keras.applications-style constructor of a shipped configuration."""

    def build(
        include_top: bool = True,
        weights: str | Path | None = None,
        input_tensor: Tensor | None = None,
        input_shape: InputShape | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | None = "softmax",
        include_preprocessing: bool = True,
        name: str | None = None,
    ) -> keras.Model:
        if input_shape is None and include_top and input_tensor is None:
            input_shape = (IMAGE_SIZE, IMAGE_SIZE, 3)
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
            include_preprocessing=include_preprocessing,
            name=name,
        )

    size = config.removeprefix("mixnet_").upper()
    build.__name__ = build.__qualname__ = f"MixNet{size}"
    build.__doc__ = f"""MixNet-{size} with the signature of ``keras.applications``; arguments as in ``create_model``.

    Input: RGB (batch, height, width, 3), pixels from 0 to 255; 224 x 224 with a head, unless `input_shape` says
    otherwise: (None, None, 3) stands for any size. ``weights`` may be None, ``"imagenet"``, ``"imagenet_tf"`` (S, M, L)
    or a file. Source: arXiv:1907.09595.

    Example:
        >>> MixNet{size}(include_top=False, pooling="avg", input_shape=(64, 64, 3)).output_shape
        (None, 1536)
    """
    return build


MixNetS, MixNetM, MixNetL, MixNetXL = map(_named, ("mixnet_s", "mixnet_m", "mixnet_l", "mixnet_xl"))
