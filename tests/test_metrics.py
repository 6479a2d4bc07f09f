"""Shares, intervals, signal-to-noise, cosine: by hand, and against SciPy."""

import math

import numpy as np
import pytest

from mixnet_tf.metrics import in_top5, mcnemar, mean_cosine, same_class, signal_to_noise, wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (90, 100), (359, 359)])
def test_wilson_is_scipys(hits, count):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
    share = wilson(hits, count)
    assert share.value == hits / count
    assert share.low == pytest.approx(expected.low, abs=1e-12)
    assert share.high == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 5), (7, 7), (12, 3), (900, 1100)])
def test_mcnemar_is_scipys(only_a, only_b):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected)


def test_mcnemar_by_hand():
    """One against five of six coin throws: (1 + 6) / 64 on either side."""
    assert mcnemar(1, 5) == mcnemar(5, 1) == 14 / 64


def test_signal_to_noise_by_hand():
    reference = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert signal_to_noise(reference, reference + np.array([[0, 0], [5, 0]])) == 0.0  # 25 of power against 25
    assert signal_to_noise(reference, 1.1 * reference) == pytest.approx(20.0)  # a tenth of the amplitude
    assert signal_to_noise(reference, reference) is None  # no noise
    assert signal_to_noise(0 * reference, reference) is None  # no signal


def test_signal_to_noise_counts_in_double_precision():
    reference = np.full(1000, 1e4, np.float32)
    assert signal_to_noise(reference, reference + np.float32(1)) == pytest.approx(80.0, abs=1e-6)


def test_agreement_by_hand():
    a, b = np.array([[3, 0], [0, 3], [3, 0], [0, 3]]), np.array([[1, 0], [1, 0], [9, 8], [0, 1]])
    assert same_class(a, b) == 0.75


def test_top5_by_hand():
    ranks = np.array([[7.0, 6, 5, 4, 3, 2, 1], [7.0, 6, 5, 4, 2, 3, 1]])
    assert in_top5(ranks, np.array([4, 4])).tolist() == [True, False]


def test_of_equal_outputs_the_first_is_the_best():
    """As argmax has it: int8 outputs are often equal."""
    ties = np.random.default_rng(0).integers(0, 2, (50, 100)).astype(float)
    best = [{*np.flatnonzero(row)[:5].tolist()} for row in ties]  # the first ones
    assert [in_top5(ties, np.full(50, i)).tolist() for i in range(20)] == [
        [i in five for five in best] for i in range(20)
    ]


def test_cosine_by_hand():
    a = np.array([[0.1, 0.0], [1.0, 0.0], [2.0, 0.0]])
    b = np.array([[0.1, 0.1], [-5.0, 0.0], [0.0, 0.0]])
    assert mean_cosine(a, b) == pytest.approx((1 / math.sqrt(2) - 1 + 0) / 3)
