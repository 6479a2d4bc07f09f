"""Accuracy of one model, on images whose right answer is plain: a network that says which colour is strongest."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from mixnet_tf.data.dataset import ImageData, Split
from mixnet_tf.data.sources import load_data
from mixnet_tf.errors import DataError, MixNetError
from mixnet_tf.evidence.classifier import Classifier, open_classifier
from mixnet_tf.evidence.evaluation import evaluate, outputs_of, score, with_distance
from mixnet_tf.litert.flatgraph import FlatGraph

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
NAMES = tuple(COLORS)


def painted(*colors: str, labels: list[int] | None = None, name: str = "paints", size: int = 8) -> ImageData:
    """A data set of plain images: labelled by their colour, unless `labels` says otherwise."""
    pixels = np.stack([np.full((size, size, 3), COLORS[color], np.uint8) for color in colors])
    truth = np.array([NAMES.index(color) for color in colors] if labels is None else labels, np.int32)
    splits = dict.fromkeys(("train", "val", "test"), Split(pixels, truth))
    return ImageData(name, NAMES, splits, image_size=size)


@pytest.fixture(scope="module")
def mean_color(tmp_path_factory):
    """A .keras file: pixels of any size to the mean of red, green and blue, from 0 to 1."""
    path = tmp_path_factory.mktemp("model") / "mean.keras"
    image = keras.Input((None, None, 3))
    fractions = keras.layers.Rescaling(1 / 255)(image)
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(fractions)).save(path)
    return path


def test_score_by_hand():
    outputs = np.array([[9.0, 1, 1], [9, 1, 1], [1, 9, 1], [1, 1, 9]])
    result = score("m", "val", outputs, np.array([0, 1, 1, 1]), ("a", "b", "c"))
    assert (result.model, result.split, result.count) == ("m", "val", 4)
    assert result.top1 == 0.5 and result.top5 == 1.0
    assert result.per_class == {"a": 1.0, "b": pytest.approx(1 / 3)}  # no image of c
    assert result.reference is result.agreement is result.snr_db is None


def test_top5_of_a_score_by_hand():
    outputs = np.tile(np.arange(7.0), (4, 1))  # the five best are 2 to 6
    assert score("m", "test", outputs, np.array([6, 2, 1, 0]), tuple("abcdefg")).top5 == 0.5


def test_distance_by_hand():
    outputs, expected = np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([[3.0, 4.0], [1.0, 0.0]])
    result = with_distance(score("m", "test", outputs, np.array([1, 1]), ("a", "b")), outputs, "r.keras", expected)
    assert (result.reference, result.agreement, result.top1) == ("r.keras", 0.5, 1.0)
    assert result.snr_db == pytest.approx(10 * np.log10(26 / 5))  # the power is the reference's


def test_evaluation_of_a_keras_model(mean_color):
    result = evaluate(mean_color, painted("red", "green", "blue", "blue", labels=[0, 1, 2, 0]))
    assert (result.model, result.split, result.count) == (str(mean_color), "test", 4)
    assert result.top1 == 0.75 and result.top5 == 1.0  # of three classes
    assert result.per_class == {"red": 0.5, "green": 1.0, "blue": 1.0}


def test_the_split_is_the_one_asked_for(mean_color):
    data, wrong = painted("red", "green"), painted("red", "green", labels=[1, 0])
    data = dataclasses.replace(data, splits={**data.splits, "val": wrong.splits["val"]})
    assert evaluate(mean_color, data).top1 == 1 and evaluate(mean_color, data, split="val").top1 == 0
    with pytest.raises(MixNetError, match=r"split: found 'vall', expected one of train, val, test"):
        evaluate(mean_color, data, split="vall")


BLUE = {
    "pixels": [0, 0, 255],
    "fractions": [0, 0, 1],
    "signed": [-1, -1, 1],
    "normalized": [-0.485 / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225],
}
"""A blue image in every format: (x / 255 - mean) / std with ImageNet's for the last one."""


@pytest.mark.parametrize("input_format", BLUE)
def test_a_model_gets_what_the_user_says_it_takes(input_format, tmp_path):
    image = keras.Input((None, None, 3))
    path = save_keras(tmp_path / "mean.keras", image, keras.layers.GlobalAveragePooling2D()(image))
    outputs, labels = outputs_of(open_classifier(path, input_format), painted("blue", "red"), "test")
    np.testing.assert_allclose(outputs[0], BLUE[input_format], rtol=1e-5)
    assert labels.tolist() == [2, 0] and outputs.shape == (2, 3)


def test_a_model_that_does_not_tell_what_it_takes(tmp_path, fixtures):
    image = keras.Input((None, None, 3))
    path = save_keras(tmp_path / "mean.keras", image, keras.layers.GlobalAveragePooling2D()(image))
    for foreign in (path, fixtures / "tiny" / "classifier.tflite"):
        with pytest.raises(MixNetError, match=f"^{foreign}: does not say what it takes for an image; give --input pix"):
            evaluate(foreign, painted("red"))


def test_a_model_that_says_something_else(mean_color):
    with pytest.raises(MixNetError, match=r"takes pixels, as it says itself; found --input normalized$"):
        evaluate(mean_color, painted("red"), input_format="normalized")


def test_more_images_than_a_batch(mean_color):
    data = painted(*("red", "green", "blue") * 25)
    outputs, labels = outputs_of(open_classifier(mean_color), data, "test")
    assert (outputs.argmax(axis=1) == labels).all() and len(labels) == 75


@pytest.mark.parametrize(
    ("fixed", "data_size", "asked", "expected"),
    [
        ((None, None), None, None, (224, 224)),
        ((None, None), 8, None, (8, 8)),
        ((None, None), (8, 6), None, (8, 6)),
        ((None, None), 8, 16, (16, 16)),
        ((None, 12), 8, None, (8, 12)),
        ((16, 12), 8, None, (16, 12)),
        ((16, 12), 8, (16, 12), (16, 12)),
    ],
)
def test_image_size(fixed, data_size, asked, expected):
    """The model's, else what was asked for, else the data's, else 224."""
    sizes = []

    def run(images: np.ndarray) -> np.ndarray:
        sizes.append(images.shape[1:3])
        return images.mean(axis=(1, 2))

    data = dataclasses.replace(painted("red"), image_size=data_size)
    outputs_of(Classifier("m.keras", run, fixed, 3), data, "test", image_size=asked)
    assert sizes == [expected]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((12, 16), "m.keras: takes images of 16 x 12, not 12 x 16"),
        (0, "image_size: found 0, expected pixels as an integer or"),
        ("16", "image_size: found '16', expected pixels"),
    ],
)
def test_an_image_size_that_cannot_be(asked, message):
    with pytest.raises(MixNetError, match=message):
        outputs_of(Classifier("m.keras", np.asarray, (16, 12), 3), painted("red"), "test", image_size=asked)


def test_outputs_that_are_not_finite():
    model = Classifier("m.keras", lambda images: np.full((len(images), 3), np.nan), (8, 8), 3)
    with pytest.raises(MixNetError, match=r"m\.keras: gives outputs that are not finite"):
        outputs_of(model, painted("red"), "test")


def test_another_number_of_classes():
    with pytest.raises(MixNetError, match=r"m\.keras: has 4 classes, but paints has 3"):
        outputs_of(Classifier("m.keras", np.asarray, (8, 8), 4), painted("red"), "test")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("red\ngreen\nblue\n", None),
        (
            "red\nblue\ngreen\n",
            "class 1 is 'blue' in its labels, but 'green' in paints; expected the same",
        ),
        ("0\n1\n2\n", None),  # no names
        ("another file\n", None),  # not the labels of these classes
    ],
)
def test_classes_in_another_order_are_refused(names, message, mean_color, tmp_path):
    path = tmp_path / "m.keras"
    path.write_bytes(mean_color.read_bytes())
    (tmp_path / "labels.txt").write_text(names)
    if message is None:
        assert evaluate(path, painted("red")).top1 == 1
    else:
        with pytest.raises(MixNetError, match=message):
            evaluate(path, painted("red"))


def test_data_without_names_fits_any_labels(mean_color, tmp_path):
    path = tmp_path / "m.keras"
    path.write_bytes(mean_color.read_bytes())
    (tmp_path / "labels.txt").write_text("red\nblue\ngreen\n")
    numbered = dataclasses.replace(painted("red"), class_names=("0", "1", "2"))
    assert evaluate(path, numbered).per_class == {"0": 1.0}


def test_bad_images_are_the_datas_business(mean_color, tmp_path):
    for split in ("train", "val", "test"):
        for number, (color, rgb) in enumerate(COLORS.items()):
            folder = tmp_path / split / f"{number}_{color}"
            folder.mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (8, 8), rgb).save(folder / f"{i}.png")
    (tmp_path / "test" / "0_red" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png"):
        evaluate(mean_color, load_data(tmp_path))
    assert evaluate(mean_color, load_data(tmp_path), split="val").count == 6
    result = evaluate(mean_color, load_data(tmp_path, on_bad_image="skip"))
    assert (result.count, result.top1) == (6, 1.0)


def test_an_image_that_is_lost_after_it_was_checked_is_named(mean_color, tmp_path):
    for number, (color, rgb) in enumerate(COLORS.items()):
        (tmp_path / f"{number}_{color}").mkdir()
        for i in range(3):
            Image.new("RGB", (8, 8), rgb).save(tmp_path / f"{number}_{color}" / f"{i}.png")
    data = load_data(tmp_path).checked("test")
    lost = Path(data.splits["test"].images[1])
    lost.unlink()
    with pytest.raises(DataError, match=f"^{lost}: no such file$"):
        evaluate(mean_color, data)


def save_keras(path, image, outputs):
    keras.Model(image, outputs).save(path)
    return path


def test_keras_models_that_are_no_classifiers(tmp_path):
    image, vector = keras.Input((8, 8, 3)), keras.Input((4,))
    flat = keras.layers.Flatten()(image)
    two = save_keras(tmp_path / "two.keras", image, [keras.layers.Dense(3)(flat), keras.layers.Dense(3)(flat)])
    with pytest.raises(MixNetError, match=r"two\.keras: has 1 inputs and 2 outputs, expected one of each"):
        open_classifier(two)
    table = save_keras(tmp_path / "table.keras", vector, keras.layers.Dense(3)(vector))
    with pytest.raises(MixNetError, match=r"table\.keras: maps \(None, 4\) to \(None, 3\), expected RGB images"):
        open_classifier(table)
    maps = save_keras(tmp_path / "maps.keras", image, keras.layers.Conv2D(3, 1)(image))
    with pytest.raises(MixNetError, match=r"maps \(None, 8, 8, 3\) to \(None, 8, 8, 3\), expected"):
        open_classifier(maps)
    gray = keras.Input((8, 8, 1))
    gray_model = save_keras(tmp_path / "gray.keras", gray, keras.layers.Dense(3)(keras.layers.Flatten()(gray)))
    with pytest.raises(MixNetError, match=r"gray\.keras: maps \(None, 8, 8, 1\)"):
        open_classifier(gray_model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny/conv_relu_conv", r"maps \(1, 4, 4, 3\) to \(1, 4, 4, 2\), expected RGB images"),
        ("ops/int8_swish", r"maps \(1, 8, 8, 8\) to \(1, 8, 8, 8\), expected RGB images"),
        ("odd/two_outputs", "has 1 inputs and 2 outputs, expected one of each"),
        ("odd/two_inputs", "has 2 inputs and 1 outputs, expected one of each"),
        ("odd/batch_of_two", r"its input has shape \[2, 8, 8, 3\], expected an image"),
        ("odd/dynamic_size", r"its input has shape \[1, -1, -1, 3\], expected an image"),
        ("odd/uint8_without_scale", "its input is uint8 without a scale"),
    ],
)
def test_lite_models_that_are_no_classifiers(name, message, fixtures):
    with pytest.raises(MixNetError, match=f"{name}.tflite: {message}"):
        open_classifier(fixtures / f"{name}.tflite")


def test_a_lite_model_of_four_rows_for_an_image(fixtures, tmp_path):
    """The mean over height and batch leaves a row for each column of pixels."""
    graph = FlatGraph.read(fixtures / "tiny" / "classifier.tflite")
    (mean,) = [op for op in graph.ops if op.name == "MEAN"]
    graph.set_constant(mean, 1, np.array([0, 1], np.int32))
    (tmp_path / "rows.tflite").write_bytes(graph.content())
    with pytest.raises(MixNetError, match=r"rows\.tflite: maps \(1, 4, 4, 3\) to \(4, 3\), expected RGB images"):
        open_classifier(tmp_path / "rows.tflite", "signed")


@pytest.mark.parametrize("name", ["model.h5", "model", "model.keras.zip"])
def test_another_kind_of_file(name, tmp_path):
    (tmp_path / name).write_text("x")
    with pytest.raises(MixNetError, match=rf"{name}: expected a \.keras or a \.tflite file"):
        open_classifier(tmp_path / name)


@pytest.mark.parametrize("name", ["none.keras", "none.tflite"])
def test_no_file(name, tmp_path):
    with pytest.raises(MixNetError, match=f"{name}: no such file"):
        open_classifier(tmp_path / name)


def test_a_lite_model_by_hand(fixtures):
    """tiny/classifier: convolution, ReLU, mean, fully connected, all with the whole numbers of fixtures/make.py."""
    classifier = open_classifier(fixtures / "tiny" / "classifier.tflite", "fractions")
    assert (classifier.image_size, classifier.classes) == ((4, 4), 3)

    def whole(*shape: int, start: int = 0) -> np.ndarray:
        return np.resize(np.roll([1.0, -2.0, 0.0, 2.0, -1.0], -start), shape)

    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    hidden = np.maximum(images / 255 @ whole(3, 4) + whole(4, start=1), 0).mean(axis=(1, 2))
    expected = hidden @ whole(4, 3, start=1) + whole(3, start=2)
    np.testing.assert_allclose(classifier.predict(images), expected, rtol=1e-5, atol=1e-5)
