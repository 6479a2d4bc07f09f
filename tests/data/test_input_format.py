"""What models take for an image: four formats, and which of them follows from what a model does first."""

import numpy as np
import pytest

from mixnet_tf.data.choices import INPUT_FORMATS
from mixnet_tf.data.input_format import Front, format_before, limits, prepare, settle
from mixnet_tf.data.pixels import preprocess_input
from mixnet_tf.errors import ArgumentError, MixNetError

MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
PIXELS = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3) * 5


def test_pixels_in_every_format():
    expected = {
        "pixels": PIXELS,
        "fractions": PIXELS / 255,
        "signed": PIXELS / 127.5 - 1,
        "normalized": (PIXELS / 255 - MEAN) / STD,
    }
    assert tuple(expected) == INPUT_FORMATS
    for name, images in expected.items():
        made = prepare(PIXELS, name)
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, images, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.stack(limits(name))[:, 1], (images.min() * 0 + prepare(
            np.array([[0] * 3, [255] * 3], np.uint8), name))[:, 1], rtol=1e-6)  # fmt: skip
    np.testing.assert_array_equal(prepare(PIXELS, "normalized"), preprocess_input(PIXELS))


def test_floats_have_been_prepared_already():
    floats = np.full((1, 2, 2, 3), 7.5, np.float32)
    assert prepare(floats, "normalized") is floats and prepare(floats, None) is floats


def test_pixels_for_a_model_that_does_not_tell():
    with pytest.raises(MixNetError, match=r"^m\.keras: does not say .* give --input pixels, fractions, signed or norm"):
        prepare(PIXELS, None, "m.keras")


@pytest.mark.parametrize(
    ("scale", "offset", "expected"),
    [
        (1, 0, None),
        (1 / 255, 0, "pixels"),
        (1 / 127.5, -1, "pixels"),
        (1 / (255 * STD), -MEAN / STD, "pixels"),
        (1 / 60.0, -2, "pixels"),  # Normalization, adapted to some photographs
        (1 / 20.0, -5, "pixels"),  # to dark ones
        (2, -1, "fractions"),
        (1 / STD, -MEAN / STD, "fractions"),
        (255, 0, "fractions"),
        (0.5, 0.5, "signed"),
        (0.5 / STD, (0.5 - MEAN) / STD, "signed"),
        (STD, MEAN, "normalized"),
        (STD * 255, MEAN * 255, "normalized"),
        (4.2, -1.7, None),  # adapted to some fractions, or to anything else
        (1 / 255**2, 0, None),  # twice
        (-1 / 255, 1, "pixels"),  # a negative
    ],
)
def test_what_a_model_takes_follows_from_its_first_arithmetic(scale, offset, expected):
    assert format_before(np.broadcast_to(scale, 3), np.broadcast_to(offset, 3)) == expected


def test_the_user_decides_where_the_model_does_not():
    unknown, ours, sure = Front(None, certain=False), Front("normalized", certain=False), Front("pixels", certain=True)
    assert [settle(front, None, "m") for front in (unknown, ours, sure)] == [None, "normalized", "pixels"]
    assert [settle(front, "signed", "m") for front in (unknown, ours)] == ["signed", "signed"]
    assert settle(sure, "pixels", "m") == "pixels"
    with pytest.raises(MixNetError, match=r"^m: takes pixels, as it says itself; found --input signed$"):
        settle(sure, "signed", "m")
    with pytest.raises(ArgumentError, match=r"input_format: found 'pixel', .*did you mean 'pixels'\?"):
        settle(unknown, "pixel", "m")
