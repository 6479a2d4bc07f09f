"""Pixels: normalization, and what augmentation does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.decoding import decode
from mixnet_tf.data.pixels import pixels_to_decode, preprocess_input, training_pixels
from mixnet_tf.errors import ArgumentError, DataError

RNG = np.random.default_rng(7)
PIXELS = RNG.integers(0, 256, (6, 9, 3), np.uint8)
MIDDLE = np.full(8, 0.5)  # draws: mean area, target's aspect ratio, centred, not mirrored, colors unchanged


@pytest.mark.parametrize("kind", ["uint8", "int32", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("convert", [np.asarray, tf.constant, list], ids=["numpy", "tensor", "list"])
def test_preprocess_input_normalizes_any_kind_of_pixels(kind, convert):
    images = PIXELS[None].astype(kind)
    expected = np.empty((1, 6, 9, 3))
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        expected[..., channel] = (PIXELS[..., channel] - 255 * mean) / (255 * std)
    result = preprocess_input(convert(images))
    assert result.dtype == (tf.float32 if convert is tf.constant else np.float32)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_preprocess_input_is_part_of_a_functional_model():
    inputs = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(inputs, preprocess_input(inputs))
    np.testing.assert_allclose(model(PIXELS[None]), preprocess_input(PIXELS[None]), atol=1e-6)


@pytest.mark.parametrize("shape", [(), (2, 2), (2, 4, 4, 1), (2, 3, 4, 4)])
def test_preprocess_input_wants_rgb(shape):
    with pytest.raises(DataError, match=r"expected .*channels last"):
        preprocess_input(np.zeros(shape))


def ramp(height: int, width: int) -> Image.Image:
    """Red rises from left to right, green from top to bottom, 0 to 200."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 200, width).round()
    image[..., 1] = np.linspace(0, 200, height).round()[:, None]
    return Image.fromarray(image)


def test_the_middle_draws_cut_the_centre_and_change_no_color():
    image = ramp(120, 160)
    result = training_pixels(image, (30, 40), Augmentation(min_area=0.5), MIDDLE)
    side = 0.75**0.5  # of the image's, for 3/4 of its area and its own aspect ratio
    centres = (np.arange(40) + 0.5) / 40
    expected = 200 * (0.5 + side * (centres - 0.5))
    np.testing.assert_allclose(result[15, :, 0], expected, atol=2)
    np.testing.assert_allclose(result[:, 20, 1], 200 * (0.5 + side * ((np.arange(30) + 0.5) / 30 - 0.5)), atol=2)


def test_random_crops_keep_their_bounds():
    image, augmentation = ramp(200, 200), Augmentation(min_area=0.35, flip=False, jitter=0.0)
    sides, edges = [], []
    for draws in np.random.default_rng(0).random((300, 8)):
        crop = training_pixels(image, 50, augmentation, draws).astype(float)
        extent = (crop[-1, -1, :2] - crop[0, 0, :2]) / 200 * 50 / 49
        sides.append(extent)
        edges.append(crop[0, 0, :2] / 200)
    (width, height), (left, top) = np.transpose(sides), np.transpose(edges)
    area, ratio = width * height, width / height
    assert 0.33 < area.min() < 0.40
    assert area.max() > 0.9
    assert 0.70 < ratio.min() < 0.85
    assert 1.18 < ratio.max() < 1.40
    assert (left + width).max() < 1.02
    assert left.max() > 0.2
    assert top.max() > 0.2


def test_half_of_the_images_are_mirrored_if_wanted():
    image, draws = ramp(40, 40), np.random.default_rng(1).random((200, 8))
    for flip, low, high in ((True, 0.4, 0.6), (False, 0.0, 0.0)):
        crops = [training_pixels(image, 20, Augmentation(flip=flip, jitter=0.0), row) for row in draws]
        mirrored = np.mean([crop[0, 0, 0] > crop[0, -1, 0] for crop in crops])
        assert low <= mirrored <= high


@pytest.mark.parametrize(
    "colors", [(1, 0.5, 0.5), (0, 0.5, 0.5), (0.5, 1, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 1), (0.2, 0.9, 0.1)]
)
def test_jitter_is_brightness_then_contrast_then_saturation(colors):
    image = RNG.integers(90, 150, (16, 16, 3), np.uint8)  # far from 0 and 255: nothing is clipped
    brightness, contrast, saturation = (1 + 0.3 * (2 * color - 1) for color in colors)
    expected = image * brightness
    mean = (expected @ [0.299, 0.587, 0.114]).mean()
    expected = mean + contrast * (expected - mean)
    gray = (expected @ [0.299, 0.587, 0.114])[..., None]
    expected = gray + saturation * (expected - gray)
    # No crop: whole area at the image's own aspect ratio.
    draws = np.array([1.0, 0.5, 0, 0, 1.0, *colors])
    result = training_pixels(Image.fromarray(image), 16, Augmentation(jitter=0.3), draws)
    np.testing.assert_allclose(result, expected, atol=1)


def test_a_large_jpeg_is_decoded_smaller_where_that_suffices(tmp_path):
    path = tmp_path / "x.jpg"
    ramp(900, 1200).save(path, quality=95)
    augmentation = Augmentation()
    at_least = pixels_to_decode(64, augmentation)
    small, full = decode(path, at_least=at_least), decode(path)
    assert full.size == (1200, 900)
    assert small.size == (300, 225)
    assert min(small.size) >= at_least >= 64 / (0.35 * 3 / 4) ** 0.5
    for draws in np.random.default_rng(2).random((5, 8)):
        a, b = (training_pixels(image, 64, augmentation, draws).astype(float) for image in (small, full))
        np.testing.assert_allclose(a, b, atol=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_area": 0}, "min_area: found 0"),
        ({"min_area": 1.5}, "min_area: found 1.5"),
        ({"min_area": float("nan")}, "min_area: found nan"),
        ({"jitter": -0.1}, "jitter: found -0.1"),
        ({"jitter": "0.2"}, "jitter: found '0.2'"),
        ({"flip": 1}, "flip: found 1"),
    ],
)
def test_impossible_augmentations(arguments, message):
    with pytest.raises(ArgumentError, match=f"^augmentation.{message}, expected "):
        Augmentation(**arguments)


def test_numbers_of_an_augmentation_are_plain():
    augmentation = Augmentation(min_area=1, jitter=np.float64(0.5))
    assert (augmentation.min_area, augmentation.jitter) == (1.0, 0.5)
    assert type(augmentation.min_area) is type(augmentation.jitter) is float
