"""LiteRT's interpreter: which files are taken."""

import pytest
import tensorflow as tf
from foreign import foreign

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.runtime import LiteModel


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        (
            (1, None, None, 3),
            tf.float32,
            r"its input has shape \[1, -1, -1, 3\], expected an image: \(1, height, width,",
        ),
        ((2, 8, 8, 3), tf.float32, r"its input has shape \[2, 8, 8, 3\], expected an image"),
        ((1, 8, 8, 3), tf.uint8, "its input is uint8 without a scale, expected float32 or quantized images"),
    ],
)
def test_inputs_that_are_no_normalized_image_are_refused(shape, dtype, message, tmp_path):
    path = tmp_path / "f.tflite"
    path.write_bytes(
        foreign(lambda image: tf.reduce_mean(tf.cast(image, tf.float32), (1, 2)), tf.TensorSpec(shape, dtype))
    )
    with pytest.raises(DeployError, match=message):
        LiteModel(path)
