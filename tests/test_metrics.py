"""Shares, intervals, signal-to-noise, cosine: by hand, and against SciPy."""

import math

import numpy as np
import pytest

from mixnet_tf.metrics import (
    class_scores,
    count_confusion,
    in_top5,
    mcnemar,
    mean_cosine,
    paired_loss,
    same_class,
    signal_to_noise,
    wilson,
)


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


def test_confusion_by_hand():
    counts = count_confusion(np.array([0, 1, 1, 1]), np.array([0, 0, 0, 2]), 3)
    assert counts.tolist() == [[1, 2, 0], [0, 0, 0], [0, 1, 0]]  # rows: the true class


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_class_scores_are_scikit_learns(classes):
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    rng = np.random.default_rng(classes)
    labels, predicted = rng.integers(0, classes, 60), rng.integers(0, classes, 60)
    labels[labels == 1], predicted[predicted == 0] = 0, 1  # a class without images, and one that nothing is taken for
    everything = list(range(classes))
    expected = precision_recall_fscore_support(labels, predicted, labels=everything, zero_division=np.nan)
    counts = count_confusion(predicted, labels, classes)
    np.testing.assert_array_equal(counts, confusion_matrix(labels, predicted, labels=everything))
    scores = class_scores(counts, [f"class {i}" for i in everything])
    assert [score.name for score in scores] == [f"class {i}" for i in everything]
    for name, column in zip(("precision", "recall", "f1", "count"), expected, strict=True):
        values = [np.nan if (value := getattr(score, name)) is None else value for score in scores]
        np.testing.assert_allclose(values, column, rtol=1e-12)


def test_a_loss_by_hand():
    """Twelve against four of 98 images, one added to each: 13 and 5 of 100."""
    loss = paired_loss(12, 4, 98)
    spread = 1.96 * math.sqrt((0.13 + 0.05 - 0.08**2) / 100)
    assert loss.value == 8 / 98
    assert (loss.low, loss.high) == pytest.approx((0.08 - spread, 0.08 + spread), abs=1e-5)
    back = paired_loss(4, 12, 98)
    assert (back.value, back.low, back.high) == pytest.approx((-loss.value, -loss.high, -loss.low))


@pytest.mark.parametrize("count", [60, 500])
def test_the_interval_of_a_loss_holds_the_truth_as_often_as_it_says(count):
    rng, truth, held = np.random.default_rng(0), 0.06 - 0.03, 0
    for only_a, only_b, _ in rng.multinomial(count, [0.06, 0.03, 0.91], 2000):
        loss = paired_loss(int(only_a), int(only_b), count)
        held += loss.low <= truth <= loss.high
    assert 0.935 < held / 2000 < 0.985
