"""What takes the steps: optimizers, their average, accumulation, clipping, schedules, and the rate at the peak."""

import dataclasses

import keras
import numpy as np
import pytest
from marks import slow

from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.optimization import make_optimizer
from mixnet_tf.training.phases import Phase

PHASE = Phase(range(4), 0.1, None)
NAMES = ("adamw", "sgd", "rmsprop")
GRADIENTS = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")


def steps_of(optimizer, gradients=GRADIENTS) -> list[np.ndarray]:
    """Return where a kernel of three numbers, all 1 before, is after each step."""
    kernel = keras.Variable(np.ones(3), name="kernel")
    places = []
    for gradient in gradients:
        optimizer.apply([gradient], [kernel])
        places.append(np.array(kernel))
    return places


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_is_the_mean_of_the_last_quarter(name, accumulate):
    training = TrainingConfig(optimizer=name, accumulate=accumulate, ema_epochs=100, warmup_epochs=0)
    optimizer = make_optimizer(training, 10, PHASE)
    places = steps_of(optimizer)
    np.testing.assert_allclose(optimizer._model_variables_moving_average[0], np.mean(places[30:], axis=0), rtol=1e-5)
    assert optimizer.averages and np.ptp(places[30:], axis=0).min() > 0


KERAS = {
    "adamw": lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.1),
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=0.1),
    "rmsprop": lambda rate: keras.optimizers.RMSprop(rate, rho=0.9, momentum=0.9, epsilon=1e-3, weight_decay=0.1),
}


@pytest.mark.parametrize("name", ["adamw", *slow(*(name for name in NAMES if name != "adamw"))])
def test_steps_are_those_of_keras_and_survive_a_file(name):
    training = TrainingConfig(optimizer=name, weight_decay=0.1, warmup_epochs=1)
    optimizer = make_optimizer(training, 10, PHASE)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 30, warmup_target=0.1, warmup_steps=10)
    steps = steps_of(optimizer)
    # Adam's 1 - 0.999 is 5e-5 larger where 0.999 is a float32, as in TensorFlow's operator
    np.testing.assert_allclose(steps, steps_of(KERAS[name](schedule)), rtol=2e-5 if name == "adamw" else 0)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    np.testing.assert_array_equal(steps_of(again), steps)


@pytest.mark.parametrize("name", NAMES)
def test_two_halves_make_the_step_of_the_whole(name):
    constant = TrainingConfig(optimizer=name, schedule="step", decay_rate=1, warmup_epochs=0)
    halves = make_optimizer(dataclasses.replace(constant, accumulate=2), 10, PHASE)
    whole = make_optimizer(constant, 5, PHASE)
    both = GRADIENTS.reshape(20, 2, 3).mean(axis=1)
    np.testing.assert_allclose(steps_of(halves)[1::2], steps_of(whole, both), rtol=1e-5)


def test_a_long_gradient_is_shortened():
    training = TrainingConfig(optimizer="sgd", clip_norm=0.5, weight_decay=0, warmup_epochs=0)
    long, short = np.float32([3, 0, 4]), np.float32([0.3, 0, 0.4])
    first, second = (steps_of(make_optimizer(training, 10, PHASE), [gradient])[0] for gradient in (long, short))
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert not np.allclose(first, 1)


def test_the_rate_falls_in_steps_as_timm_has_it():
    """lr 0.016, decay 0.969 every 2.4 epochs, 3 epochs of warm-up (timm's MixNet-XL), 100 batches an epoch."""
    training = TrainingConfig(epochs=450, schedule="step", decay_rate=0.969, decay_epochs=2.4, warmup_epochs=3)
    schedule = make_optimizer(training, 100, Phase(range(450), 0.016, None))._learning_rate
    for epoch in (3, 4.79, 4.8, 7.1, 100, 449.99):
        assert float(schedule(100 * epoch)) == pytest.approx(0.016 * 0.969 ** int((epoch + 1e-6) / 2.4), rel=1e-4)
    assert [float(schedule(step)) for step in (0, 150)] == pytest.approx([0, 0.008])


def test_the_peak_grows_with_what_makes_a_step():
    training = TrainingConfig(learning_rate=0.1, base_batch=256, batch_size=64, accumulate=8)
    assert training.peak_rate == pytest.approx(0.2)
    assert TrainingConfig(learning_rate=0.1, batch_size=64).peak_rate == 0.1
