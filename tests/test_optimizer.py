"""The average of the weights: against numpy's means, and what of it a file keeps."""

import keras
import numpy as np
import pytest

from mixnet_tf.optimizer import AveragingAdamW


def averages(steps: int, **settings) -> tuple[np.ndarray, np.ndarray]:
    """Train one number; return it, and its average, after every step."""
    variable = keras.Variable([3.0])
    optimizer = AveragingAdamW(0.5, use_ema=True, **settings)
    optimizer.build([variable])
    rows = []
    for step in range(steps):
        optimizer.apply([keras.ops.array([np.sin(step)])], [variable])
        rows.append((float(variable[0]), float(optimizer._model_variables_moving_average[0][0])))
    values, means = np.array(rows).T
    return values, means


def test_the_average_is_the_weights_at_first_and_then_the_mean_from_its_beginning():
    values, means = averages(12, average_from=5, ema_momentum=0.999)
    np.testing.assert_array_equal(means[:6], values[:6])
    np.testing.assert_allclose(means[5:], [values[5 : i + 1].mean() for i in range(5, 12)], rtol=1e-5)
    assert np.ptp(values) > 1


def test_the_average_forgets_when_it_holds_as_many_steps_as_it_looks_back_on():
    values, means = averages(20, average_from=2, ema_momentum=0.75)
    expected = values[2:6].mean()  # four steps: 1 / (1 - 0.75)
    for value, mean in zip(values[6:], means[6:], strict=True):
        expected = 0.75 * expected + 0.25 * value
        assert mean == pytest.approx(expected, rel=1e-5)


def test_no_average_is_the_weights():
    values, means = averages(6, ema_momentum=0.0)
    np.testing.assert_array_equal(means, values)


def test_steps_are_those_of_the_paper():
    """Algorithm 2 of Loshchilov & Hutter 2019 (arXiv:1711.05101) in float64; the decay is scaled by the rate, too."""
    rate, decay, beta_1, beta_2, epsilon = 0.1, 0.05, 0.9, 0.999, 1e-7
    value, m, v = 3.0, 0.0, 0.0
    variable = keras.Variable([value])
    optimizer = AveragingAdamW(rate, average_from=1, use_ema=True, weight_decay=decay)
    for step in range(1, 40):
        gradient = np.cos(step)
        optimizer.apply([keras.ops.array([gradient], "float32")], [variable])
        m, v = beta_1 * m + (1 - beta_1) * gradient, beta_2 * v + (1 - beta_2) * gradient**2
        corrected = m / (1 - beta_1**step), v / (1 - beta_2**step)
        value -= rate * (corrected[0] / (np.sqrt(corrected[1]) + epsilon) + decay * value)
        assert float(variable[0]) == pytest.approx(value, rel=2e-5)
    assert abs(value - 3) > 0.1


def test_amsgrad_is_that_of_keras():
    ours, theirs = keras.Variable([3.0]), keras.Variable([3.0])
    optimizers = AveragingAdamW(0.1, amsgrad=True, use_ema=True), keras.optimizers.AdamW(0.1, amsgrad=True)
    for gradient in (5.0, 0.1, 0.1):
        for optimizer, variable in zip(optimizers, (ours, theirs), strict=True):
            optimizer.apply([keras.ops.array([gradient])], [variable])
    assert float(ours[0]) == float(theirs[0]) != 3.0


def test_a_file_keeps_where_the_average_begins():
    optimizer = AveragingAdamW(0.1, average_from=7, use_ema=True, ema_momentum=0.5, name="mine")
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is AveragingAdamW and again.get_config() == optimizer.get_config()
    assert (again.average_from, again.ema_momentum, again.name) == (7, 0.5, "mine")
