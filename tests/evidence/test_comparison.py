"""Two models on the same images: counts by hand, and which image size models of any size get."""

import keras
import numpy as np
import pytest
from scipy import stats

from mixnet_tf.data.dataset import ImageData, Split
from mixnet_tf.data.labels import read_labels
from mixnet_tf.errors import MixNetError
from mixnet_tf.evidence import comparison as module
from mixnet_tf.evidence.classifier import Classifier, check_same_classes
from mixnet_tf.evidence.comparison import compare, compare_outputs
from mixnet_tf.metrics import wilson


def named(path: str, scores: str | None = "logits", **more) -> Classifier:
    return Classifier(path, np.asarray, (8, 8), 2, scores, **more)


def test_counts_by_hand():
    a = np.array([[3.0, 0], [0, 3], [3, 0], [0, 3]])
    b = np.array([[3.0, 0], [4, 0], [3, 0], [0, 3]])
    result = compare_outputs(named("one"), named("two"), a, b, np.array([0, 1, 1, 1]), split="test")
    assert (result.a, result.b, result.split, result.count) == ("one", "two", "test", 4)
    assert result.top1_a == wilson(3, 4) and result.top1_b == wilson(2, 4)
    assert (result.only_a_right, result.only_b_right, result.p_value) == (1, 0, 1.0)
    assert result.agreement == 0.75 and result.cosine == pytest.approx(0.75)
    assert result.snr_db == pytest.approx(10 * np.log10(36 / 25))  # one of four differs, in both of its outputs
    assert result.snr_median_db is None and result.snr_low_db == pytest.approx(10 * np.log10(9 / 25))
    interval = stats.binomtest(3, 4).proportion_ci(method="wilson")
    assert (result.agreement_low, result.agreement_high) == pytest.approx((interval.low, interval.high))


def test_one_large_image_does_not_rule_the_ratio_of_the_median_image():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(101, 5))
    b = a + 0.01 * rng.normal(size=a.shape)
    a[0], b[0] = 1000.0, 900.0
    result = compare_outputs(named("a"), named("b"), a, b, np.zeros(101, int), split="test")
    each = sorted(20 * np.log10(np.linalg.norm(x) / np.linalg.norm(x - y)) for x, y in zip(a, b, strict=True))
    assert result.snr_db == pytest.approx(20, abs=0.01)  # of the first image alone
    assert result.snr_median_db == pytest.approx(each[50]) and result.snr_median_db > 35
    assert result.snr_low_db == pytest.approx(each[5])


def test_an_image_without_any_signal_has_no_ratio():
    a, b = np.zeros((3, 2)), np.ones((3, 2))
    result = compare_outputs(named("a"), named("b"), a, b, np.zeros(3, int), split="test")
    assert result.snr_db is result.snr_median_db is result.snr_low_db is None


def test_the_other_one_may_be_right_too():
    a, b = np.array([[1.0, 0]] * 6), np.array([[0.0, 1]] * 6)
    result = compare_outputs(named("a"), named("b"), a, b, np.array([1, 1, 1, 1, 1, 0]), split="val")
    assert (result.only_a_right, result.only_b_right, result.p_value) == (1, 5, 14 / 64)
    assert result.agreement == 0


def test_the_best_five_by_hand():
    ranks = np.array([[7.0, 6, 5, 4, 3, 2, 1], [7.0, 6, 5, 4, 2, 3, 1]])
    result = compare_outputs(named("a"), named("b"), ranks, ranks[::-1], np.array([4, 5]), split="test")
    assert (result.top5_a, result.top5_b) == (wilson(2, 2), wilson(0, 2))


def photos(size: int | None = None) -> ImageData:
    """Four images of two classes, 40 x 50 pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (4, 40, 50, 3), dtype=np.uint8)
    split = Split(pixels, np.arange(4, dtype=np.int32) % 2)
    return ImageData("photos", ("a", "b"), dict.fromkeys(("train", "val", "test"), split), image_size=size)


@pytest.fixture
def sizes(monkeypatch) -> list[tuple[str, tuple[int, int]]]:
    """Models whose names are their image sizes; the list says what each was given."""
    given = []

    def open_model(path: str, where: str, input_format: str | None) -> Classifier:
        def predict(images: np.ndarray) -> np.ndarray:
            given.append((path, images.shape[1:3]))
            return images.mean(axis=(1, 2))[:, :2]

        return Classifier(path, predict, (None, None) if path == "any" else (int(path), int(path)), 2)

    monkeypatch.setattr(module, "read_model", lambda path: (path, path))
    monkeypatch.setattr(module, "classifier_of", open_model)
    return given


@pytest.mark.parametrize(
    ("pair", "data_size", "asked", "expected"),
    [
        (("any", "32"), None, None, (32, 32)),
        (("32", "any"), 48, None, (32, 32)),  # the other model comes before the data
        (("any", "any"), 48, None, (48, 48)),
        (("any", "any"), None, None, (224, 224)),
        (("any", "any"), 48, 24, (24, 24)),
        (("any", "any"), None, (24, 16), (24, 16)),
        (("32", "any"), None, 32, (32, 32)),
    ],
)
def test_models_of_any_size_get_the_size_of_the_other(pair, data_size, asked, expected, sizes):
    compare(*pair, photos(data_size), image_size=asked)
    assert sizes == [(name, expected) for name in pair]


def test_models_of_two_sizes_get_each_their_own(sizes):
    compare("16", "32", photos(48))
    assert sizes == [("16", (16, 16)), ("32", (32, 32))]


def test_a_size_that_a_model_does_not_take(sizes):
    with pytest.raises(MixNetError, match=r"^32: takes images of 32 x 32, not 24 x 24$"):
        compare("any", "32", photos(), image_size=24)


def test_classes_in_another_order_do_not_compare():
    cats, dogs = named("a", labels=("cat", "dog")), named("b", labels=("dog", "cat"))
    check_same_classes(cats, cats)
    check_same_classes(cats, named("b"))
    check_same_classes(cats, named("b", labels=("Katze", "Hund")))
    imagenet = named("c", labels=read_labels("imagenet", 1000))  # where two classes are called crane
    check_same_classes(imagenet, imagenet)
    with pytest.raises(MixNetError, match="b: its class 1 is 'cat', which is class 0 of a; expected the classes in"):
        check_same_classes(cats, dogs)


@pytest.mark.slow
def test_real_files(trained_nano, nano_float32, digits, tmp_path):
    """The float file computes what Keras computes: 80 dB are a ten-thousandth of the amplitude."""
    few = Split(digits.splits["test"].images[:40], digits.splits["test"].labels[:40])
    data = ImageData("few", digits.class_names, {**digits.splits, "test": few}, image_size=32)
    result = compare(trained_nano, nano_float32, data)
    assert (result.a, result.b, result.count) == (str(trained_nano), str(nano_float32), 40)
    assert result.snr_db > 80 and result.agreement == 1 and result.top1_a == result.top1_b
    assert result.only_a_right == result.only_b_right == 0
    image = keras.Input((32, 32, 3))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    keras.Model(image, keras.layers.Dense(3)(flat)).save(tmp_path / "three.keras")
    with pytest.raises(MixNetError, match=r"three\.keras: has 3 classes, but few has 10"):
        compare(trained_nano, tmp_path / "three.keras", data)


LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 1.0, 3.0]])
"""Of two images. What they become: probabilities by their definition."""
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
SIGMOID = 1 / (1 + np.exp(-LOGITS))


@pytest.mark.parametrize(
    ("kinds", "outputs", "measured"),
    [
        (("logits", "softmax"), (LOGITS + 7, SOFTMAX), "logits"),  # softmax forgets what is added to all
        (("softmax", "softmax"), (SOFTMAX, SOFTMAX), "logits"),
        (("sigmoid", "logits"), (SIGMOID, LOGITS), "logits"),
        (("logits", "logits"), (LOGITS, LOGITS), "logits"),
        ((None, "logits"), (LOGITS, LOGITS), "outputs"),
    ],
)
def test_equal_functions_are_equal_whatever_they_give(kinds, outputs, measured):
    a, b = (named(kind, kind) for kind in kinds)
    result = compare_outputs(a, b, *outputs, np.array([0, 2]), split="test")
    assert result.measured == measured and result.agreement == result.top1_a.value == 1
    assert result.snr_db is None or result.snr_db > 250  # rounding of float64
    assert result.cosine == pytest.approx(1)


def test_the_noise_of_probabilities_is_that_of_their_logits():
    """A tenth of the logits: 20 dB, by the definition."""
    noisy = np.exp(1.1 * LOGITS) / np.exp(1.1 * LOGITS).sum(axis=1, keepdims=True)
    result = compare_outputs(named("a"), named("b", "softmax"), LOGITS, noisy, np.array([0, 2]), split="test")
    assert result.snr_db == pytest.approx(20)


def test_rounded_probabilities_are_compared_as_such():
    """Their logits are lost: an int8 probability of 0 would be one of minus infinity."""
    rounded = np.round(SOFTMAX * 256) / 256
    a, b = named("a"), named("b", "softmax", rounded=True)
    result = compare_outputs(a, b, LOGITS, rounded, np.array([0, 2]), split="test")
    noise = np.square(SOFTMAX - rounded).sum()
    assert result.measured == "probabilities"
    assert result.snr_db == pytest.approx(10 * np.log10(np.square(SOFTMAX).sum() / noise))
