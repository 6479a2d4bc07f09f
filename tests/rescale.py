"""Write a MixNet's function another way: multiply the channels of every residual stream, divide where it is read."""

import keras
import numpy as np

from mixnet_tf.layers import ConvBatchNorm, MixDepthBlock


def rescale_streams(model: keras.Model, seed: int = 0, spread: float = 1.0) -> keras.Model:
    """Return a copy that computes the same with factors exp(N(0, spread)) on every channel of every residual stream."""
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    random, factors = np.random.default_rng(seed), None
    for layer in twin.layers:
        if isinstance(layer, ConvBatchNorm):
            if factors is not None:  # the last convolution reads the last stream
                _divide(layer.conv.kernel, factors[:, None])
                factors = None
                continue
            factors = np.exp(random.normal(0, spread, layer.filters))
            _multiply(layer.bn, factors)
        elif isinstance(layer, MixDepthBlock):
            _read(layer, factors)
            if not layer.has_residual:
                factors = np.exp(random.normal(0, spread, layer.filters))
            _multiply(layer.project_bn, factors)
    return twin


def _multiply(norm: keras.layers.BatchNormalization, factors: np.ndarray) -> None:
    norm.gamma.assign(np.asarray(norm.gamma) * factors)
    norm.beta.assign(np.asarray(norm.beta) * factors)


def _divide(kernel, factors: np.ndarray) -> None:
    kernel.assign(np.asarray(kernel) / factors)


def _read(block: MixDepthBlock, factors: np.ndarray) -> None:
    # both kernels have the channels they read on their last axis but one
    convs = (block.expand_conv or block.depthwise_conv).convs
    for conv, part in zip(convs, np.split(factors, len(convs)), strict=True):
        _divide(conv.kernel, part[:, None])
