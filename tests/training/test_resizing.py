"""Progressive resizing: small images first, whole ones last, and a model of one size at the end."""

import contextlib
import dataclasses

import numpy as np
import pytest

from mixnet_tf.data.making import maker
from mixnet_tf.saving import load_model
from mixnet_tf.training import fit
from mixnet_tf.training.resizing import STAGES, size_in_epoch


@pytest.mark.parametrize(
    ("epochs", "size", "scale", "sides"),
    [
        (4, 240, 0.4, [96, 144, 192, 240]),  # a third of the way each: 96, 144, 192
        (8, 100, 0.5, [48, 48, 64, 64, 80, 80, 100, 100]),  # 50, 66.7, 83.3, to the next multiple of 8
        (6, 100, 0.5, [48, 64, 64, 80, 100, 100]),  # the average begins after 4.5 epochs
        (3, 100, 0.5, [64, 80, 100]),  # fewer epochs than sizes
        (2, 100, 0.5, [64, 100]),
        (1, 100, 0.5, [100]),
        (4, 12, 0.1, [8, 8, 8, 12]),
        (4, 5, 0.1, [5, 5, 5, 5]),
        (3, 50, 1.0, [50, 50, 50]),
    ],
)
def test_the_size_of_every_epoch(epochs, size, scale, sides):
    sizes = [size_in_epoch(epoch, epochs, (size, 2 * size), scale) for epoch in range(epochs)]
    assert [height for height, _ in sizes] == sides
    assert all(width >= height for height, width in sizes)


@pytest.mark.slow
def test_a_run_grows_and_ends_with_a_model_of_one_size(config, data, quick, eagerly, tmp_path, monkeypatch):
    sizes = []

    @contextlib.contextmanager
    def watching(*arguments):
        with maker(*arguments) as make:
            yield lambda plan: sizes.append(plan.size) or make(plan)

    monkeypatch.setattr(fit, "maker", watching)
    training = dataclasses.replace(quick, epochs=STAGES, initial_scale=0.5)
    model = fit.train(config, data, tmp_path / "run", training=training)
    assert sizes == [(8, 8)] * 6 + [(16, 16)] * 6  # 8, 10.7, 13.3 and 16; three batches each
    assert load_model(tmp_path / "run" / "last.keras").input_shape == (None, None, None, 3)
    saved = load_model(tmp_path / "run" / "model.keras")
    assert model.input_shape == saved.input_shape == (None, 16, 16, 3)
    assert saved.layers[0].name == "image"
    images = data.splits["test"].images.astype("float32")
    np.testing.assert_array_equal(np.asarray(saved(images)), np.asarray(model(images)))
