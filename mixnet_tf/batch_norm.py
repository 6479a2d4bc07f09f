"""Batch norm that trains with TensorFlow's fused operator: Keras 3 takes elementwise ones, half of a step on a CPU."""

from typing import Any

import keras
from keras import ops

from mixnet_tf.distribution.processes import processes

_FUSED = ("float16", "bfloat16", "float32")  # the operator's types; it counts and keeps the statistics in float32


@keras.saving.register_keras_serializable("mixnet_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch norm, with the same arguments, weights and statistics.

    On TensorFlow it is fused where a map of features trains: channels last, with scale and offset. Elsewhere, and where
    it is frozen or infers, Keras' own code runs.

    Example:
        >>> layer = BatchNormalization(momentum=0.5)
        >>> maps = layer(keras.ops.reshape(keras.ops.arange(8.0), (2, 2, 2, 1)), training=True)
        >>> [round(float(value[0]), 3) for value in layer.non_trainable_variables]  # from 0 and 1 to 3.5 and 5.25
        [1.75, 3.125]
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize, and in training move the statistics."""
        if not (training and self.trainable and mask is None and self._fuses(inputs)):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = _fused(inputs, self.gamma, self.beta, self.epsilon)
        for statistic, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            statistic.assign(statistic * self.momentum + value * (1.0 - self.momentum))
        return outputs

    def _moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        """Return mean and variance over the whole batch, of which each process may have a part."""
        group = processes()
        if group.whole or mask is not None:
            return super()._moments(inputs, mask)
        mean = group.mean(ops.mean(inputs, axis=self._reduction_axes))
        return mean, group.mean(ops.mean(ops.square(inputs - mean), axis=self._reduction_axes))

    def _fuses(self, inputs: Any) -> bool:
        """Say whether the fused operator computes what Keras would of these inputs."""
        plain = self.scale and self.center and not self.renorm and not self.synchronized
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        fits = len(inputs.shape) == 4 and self.axis in (-1, 3) and dtype == self.compute_dtype and dtype in _FUSED
        return plain and fits and keras.backend.backend() == "tensorflow"


def _fused(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Return the normalized inputs, and the mean and the variance of their channels."""
    import tensorflow as tf

    scale, offset = tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta)
    # No statistics yet: an empty mean and variance. `tf.compat.v1.nn.fused_batch_norm` would raise our epsilon of 1e-5
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], variance.dtype)
    # The operator divides by count - 1, Keras by count. Of a single value, 0 / 0 on some devices, it is zero
    return outputs, mean, tf.math.multiply_no_nan(variance, (count - 1) / count)


def builtin_class(layer: object) -> type[Any]:
    """Return the class of a layer; of our batch norm, Keras' own, which computes the same.

    >>> builtin_class(BatchNormalization()) is keras.layers.BatchNormalization
    True
    """
    return keras.layers.BatchNormalization if isinstance(layer, BatchNormalization) else type(layer)
