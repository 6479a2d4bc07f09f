"""One verb for images and models of every kind; Keras' own predictions decide."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from mixnet_tf import Predictor
from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.errors import MixNetError
from mixnet_tf.evidence.classifier import predict
from mixnet_tf.evidence.comparison import compare
from mixnet_tf.evidence.evaluation import evaluate
from mixnet_tf.exporting import export
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.saving import load_model


@pytest.fixture(scope="module")
def pixels(digits) -> np.ndarray:
    return np.asarray(digits.splits["test"].images[:40])


@pytest.fixture(scope="module")
def files(pixels, tmp_path_factory) -> list[Path]:
    """The images at such a size that evaluation's crop of 32 pixels of 36 keeps their middle."""
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, pixels, strict=False):
        Image.fromarray(np.pad(image, ((2, 2), (2, 2), (0, 0)))).save(path)
    return paths


@pytest.mark.slow
def test_models_and_images_of_every_kind(trained_nano, nano_float32, pixels, files):
    model = load_model(trained_nano)
    expected = model.predict(pixels, verbose=0)
    for opened in (model, trained_nano, str(trained_nano), nano_float32):
        np.testing.assert_allclose(predict(opened, pixels), expected, atol=1e-4)
    np.testing.assert_allclose(predict(model, files), expected[:4], atol=1e-4)
    np.testing.assert_allclose(predict(model, str(files[2])), expected[2:3], atol=1e-4)


def test_files_are_cropped_as_the_model_wants(trained_nano, nano_int8, pixels, tmp_path):
    """A file from digits says that nothing is cropped, and so does the run of a .keras."""
    Image.fromarray(pixels[0]).save(tmp_path / "x.png")
    np.testing.assert_array_equal(predict(nano_int8, tmp_path / "x.png"), predict(nano_int8, pixels[:1]))
    shutil.copyfile(trained_nano, tmp_path / "model.keras")
    cropped = predict(tmp_path / "model.keras", tmp_path / "x.png")
    (tmp_path / "training.json").write_text('{"crop_fraction": 1.0}')
    whole = predict(tmp_path / "model.keras", tmp_path / "x.png")
    np.testing.assert_allclose(whole, predict(trained_nano, pixels[:1]), atol=1e-5)
    assert np.abs(whole - cropped).max() > 0.1


def test_a_model_of_any_size_gets_the_size_of_its_run(tmp_path, monkeypatch):
    """As the best.keras of a run that began with small images; one without a run gets 224 pixels, or is refused."""
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.GlobalMaxPooling2D()(keras.layers.Rescaling(1 / 255)(image)))
    model.save(tmp_path / "best.keras")
    picture = np.random.default_rng(0).integers(0, 256, (48, 60, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "x.png")
    with pytest.raises(MixNetError, match=r"best\.keras: takes images of any size; give the image size"):
        export(tmp_path / "best.keras", tmp_path / "x.tflite", recipe="float32")
    (tmp_path / "training.json").write_text('{"crop_fraction": 1.0, "image_size": [16, 24]}')
    expected = evaluation_pixels(Image.fromarray(picture), (16, 24), 1.0).max(axis=(0, 1)) / 255
    for images in (tmp_path / "x.png", picture[None]):
        np.testing.assert_allclose(predict(tmp_path / "best.keras", images)[0], expected, atol=1e-6)
    export(tmp_path / "best.keras", tmp_path / "x.tflite", recipe="float32")
    monkeypatch.chdir(tmp_path)  # of which a model in memory knows nothing
    assert Predictor(model).image_size == (224, 224)
    assert LiteModel(FlatGraph.read(tmp_path / "x.tflite")).image_size == (16, 24)


def test_one_number_is_no_probability(pixels):
    image = keras.Input((32, 32, 3))
    logit = keras.layers.Dense(1)(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image)))
    sigmoid = keras.layers.Activation("sigmoid")(logit)
    assert 0 < Predictor(keras.Model(image, sigmoid))(pixels[0])[0][1] < 1
    with pytest.raises(MixNetError, match="gives one number, which is no probability"):
        Predictor(keras.Model(image, logit))(pixels[0])


@pytest.mark.slow
def test_arrays_of_another_size_are_resized(trained_nano, pixels):
    large = np.repeat(np.repeat(pixels[:4], 2, axis=1), 2, axis=2)
    np.testing.assert_array_equal(predict(trained_nano, large).argmax(1), predict(trained_nano, pixels[:4]).argmax(1))


@pytest.mark.slow
def test_evaluate_and_compare_take_objects(trained_nano, nano_int8, digits, pixels):
    model, labels = load_model(trained_nano), digits.splits["test"].labels[:40]
    right = float((model.predict(pixels, verbose=0).argmax(axis=1) == labels).mean())
    for data in ((pixels, labels), (pixels / 255, labels)):
        result = evaluate(model, data)
        assert (result.top1, result.count, result.model) == (right, 40, model.name)
    assert evaluate(model, "digits").count == 359
    compared = compare(model, nano_int8, (pixels, labels))
    assert (compared.count, compared.top1_a.value, compared.b) == (40, right, str(nano_int8))


@pytest.fixture(scope="module")
def nano(trained_nano) -> keras.Model:
    return load_model(trained_nano)


@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        (None, np.zeros((1, 8, 8, 3), np.uint8), "model: found None, expected a .keras or .tflite file, or a built"),
        (keras.Sequential(), np.zeros((1, 8, 8, 3), np.uint8), "model: found <Sequential"),
        ("nano", np.zeros((1, 8, 8, 3)), r"images: found float64 of shape \(1, 8, 8, 3\), expected uint8 pixels"),
        ("nano", np.zeros((8, 8, 3), np.uint8), r"images: found uint8 of shape \(8, 8, 3\)"),
        ("nano", np.zeros((0, 8, 8, 3), np.uint8), "images: found none"),
        ("nano", [], "images: found none, expected at least one"),
        ("nano", 5, "images: found 5, expected paths, or uint8 pixels"),
        ("nano", ["none.jpg"], "none.jpg: no such file"),
    ],
)
def test_what_cannot_be(model, images, message, nano):
    with pytest.raises(MixNetError, match=message):
        predict(nano if model == "nano" else model, images)
