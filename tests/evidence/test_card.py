"""The model card: whoever follows its words gets the pixels and the commands that are meant."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image, ImageOps

from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.evidence.card import Card, model_card
from mixnet_tf.litert.op_table import inspect_model


@pytest.fixture(scope="module")
def table(nano_mobile):
    return inspect_model(nano_mobile)


def card_of(table, image_size: tuple[int, int], crop_fraction: float) -> str:
    taken = dataclasses.replace(table.inputs[0], shape=(1, *image_size, 3))
    return model_card(
        Card(
            table=dataclasses.replace(table, inputs=(taken,)),
            crop_fraction=crop_fraction,
            measured_on="a test",
            trained_on=None,
            cost="1 instruction",
            outputs=np.eye(10),
            labels=np.arange(10),
            confusion=np.eye(10, dtype=int),
            classes=(),
            agreement=None,
            twin_outputs=None,
            twin=None,
        )
    )


@pytest.mark.parametrize("crop_fraction", [1, 0.875])
@pytest.mark.parametrize("image_size", [(32, 32), (64, 128), (128, 64)])
@pytest.mark.parametrize("size", [(300, 100), (100, 300)])
def test_the_words_about_pictures_give_the_pixels(table, image_size, crop_fraction, size):
    """Followed with another function of Pillow than the code's."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    card = card_of(table, image_size, crop_fraction)
    words = re.search(
        r"upright\. Resize it \(bicubic\), keeping its ratio, until it covers (\d+) x (\d+) \(height x width\), "
        r"and cut the central (\d+) x (\d+) out of it\.",
        card,
    )
    cover_height, cover_width, height, width = map(int, words.groups())
    assert (height, width) == image_size
    covered = ImageOps.cover(image, (cover_width, cover_height), Image.Resampling.BICUBIC)
    left, top = round((covered.width - width) / 2), round((covered.height - height) / 2)
    pixels = np.asarray(covered.crop((left, top, left + width, top + height)))
    np.testing.assert_array_equal(pixels, evaluation_pixels(image, image_size, crop_fraction))


def test_the_commands_install_from_a_checkout_and_push_both_files(table):
    """The name of this package is no one's on PyPI, until somebody takes it."""
    card = card_of(table, (32, 32), 0.875)
    assert "pip install mixnet_tf" not in card
    assert re.search(r"^pip install \. +# in a checkout", card, re.MULTILINE)
    assert "adb push model.tflite benchmark_model /data/local/tmp/" in card
