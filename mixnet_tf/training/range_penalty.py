"""Train for int8: a penalty on tensors whose few largest values would take most of the 256 steps.

Batch norm keeps the variance of a channel, but not how far its values reach: trained on photographs, a tensor's range
may be forty times its root mean square, and sets the step of int8. Kurtosis as a regularizer, of weights: "Robust
Quantization: One Model to Rule Them All" (Shkolnik et al. 2020, arXiv:2002.07686).
"""

from typing import Any

import keras
from keras import ops

_EPSILON = 1e-6  # of a variance: a tensor that is zero costs nothing
_TENSORS = ("bn", "act", "expand_bn", "expand_act", "depthwise_bn", "depthwise_act", "se", "project_bn")


class RangePenalty(keras.regularizers.Regularizer):
    """Activity regularizer: log of the fourth moment of a whole tensor over the square of its channels' mean variance.

    It is 1.1 (the log of 3) for normal values around zero. It grows with rare large values, and with constant offsets,
    which take steps of int8 and tell nothing; it does not change with the scale.

    Args:
        weight: a factor.

    Example:
        >>> values = keras.random.normal((8, 64, 64, 4), seed=0)
        >>> round(float(RangePenalty(1.0)(values)) / 8, 1)  # a sum over the batch, as Keras expects of an activity
        1.1
    """

    def __init__(self, weight: float):
        self.weight = weight

    def __call__(self, x: Any) -> Any:
        """Return the penalty of `x` (batch, ..., channels), times its batch size."""
        x = ops.cast(x, "float32")
        fourth = ops.mean(ops.square(ops.square(x)))
        variance = ops.mean(ops.var(x, axis=tuple(range(len(x.shape) - 1))))
        penalty = ops.log(fourth + _EPSILON**2) - 2 * ops.log(variance + _EPSILON)
        return self.weight * ops.cast(ops.shape(x)[0], "float32") * penalty


def penalize_ranges(model: keras.Model, weight: float) -> None:
    """Add `weight` times the mean RangePenalty over the tensors of a MixNet's trainable layers to its loss."""
    trainable = [layer for layer in model.layers if layer.trainable]
    parts = [getattr(layer, name, None) for layer in trainable for name in _TENSORS]
    penalized = [part for part in parts if part is not None]
    for part in penalized:
        part.activity_regularizer = RangePenalty(weight / len(penalized))
