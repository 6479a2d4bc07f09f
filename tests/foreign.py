"""Files that this package did not make."""

from collections.abc import Callable

import tensorflow as tf


def foreign(function: Callable, *signature: tf.TensorSpec) -> bytes:
    """Return a float ``.tflite`` of a TensorFlow function, made by TensorFlow's converter alone."""
    module = tf.Module()
    concrete = tf.function(function, input_signature=signature).get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert()
