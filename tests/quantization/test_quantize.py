"""The quantization pipeline on the trained demonstration network."""

import dataclasses
import hashlib
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from foreign import foreign
from rescale import rescale_streams

from mixnet_tf.data.batches import Split, load_data
from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.evidence.comparison import compare
from mixnet_tf.evidence.evaluation import open_predictor, predict
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.model import create_model
from mixnet_tf.quantization.fallback import block_names
from mixnet_tf.quantization.quantize import quantize
from mixnet_tf.quantization.recipe import Equalization, Recipe
from mixnet_tf.saving import load_model

PLAIN = Recipe(
    name="plain",
    weights="int8",
    activations="int8",
    equalize=Equalization(streams=False, relu=False),
    ranges="minmax",
    bias_correction=False,
)


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


@pytest.fixture(scope="module")
def source(main_job, tmp_path_factory):
    """The trained network as a float .tflite of the deploy graph."""
    path = tmp_path_factory.mktemp("quantize") / "float.tflite"
    quantize(main_job / "model.keras", "float32", None, path)
    return path


@pytest.fixture(scope="module")
def files(source, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    names = ("int8", "int8_uint8_io", "int8_float_io", "weight_int8")
    return {name: quantize(source, name, data, folder / f"{name}.tflite", images=100) for name in names}


def _ops(path) -> set[str]:
    return {op.name for op in FlatGraph(path.read_bytes()).ops}


def test_int8_keeps_the_accuracy(main_job, files, data):
    found = compare(main_job / "model.keras", files["int8"].path, data)
    assert found.agreement >= 0.96
    assert found.snr_db >= 26
    assert found.top1_b.value >= found.top1_a.low


def test_int8_is_int8_throughout_and_no_operator_is_added(files, source, tmp_path):
    graph, before = (FlatGraph(Path(path).read_bytes()) for path in (files["int8"].path, source))
    assert sorted(op.name for op in graph.ops) == sorted(op.name for op in before.ops)
    assert not graph.float_tensors()
    assert LiteModel(files["int8"].path).input["dtype"] == LiteModel(files["int8"].path).output["dtype"] == np.int8


def test_pixels_in_give_what_normalized_floats_give(files, data):
    pixels, floats = (LiteModel(files[name].path) for name in ("int8_uint8_io", "int8_float_io"))
    assert pixels.input["dtype"] == pixels.output["dtype"] == np.uint8 and floats.input["dtype"] == np.float32
    outputs = [predict(open_predictor(model.path), data, "test")[0] for model in (pixels, floats)]
    step = pixels.output["quantization"][0]
    assert np.abs(outputs[0] - outputs[1]).max() <= step * 1.01
    raw = data.splits["test"].images[:1]
    np.testing.assert_allclose(
        (pixels.run_raw(np.asarray(raw)).astype(float) - pixels.output["quantization"][1]) * step,
        outputs[0][0],
        atol=1e-6,
    )


def test_weights_alone_lose_less(main_job, files, data):
    alone = compare(main_job / "model.keras", files["weight_int8"].path, data)
    assert alone.snr_db > compare(main_job / "model.keras", files["int8"].path, data).snr_db + 3


def test_the_record_says_how_the_file_was_made(files):
    own = files["int8"]
    content = Path(own.path).read_bytes()
    record = json.loads(Path(own.path).with_suffix(".quantization.json").read_text())
    assert record["sha256"] == hashlib.sha256(content).hexdigest() and record["size_bytes"] == len(content)
    assert record["recipe"]["name"] == "int8" and record["backend"] == "litert-quantizer"
    assert record["calibration"]["data"] == "digits" and len(set(record["calibration"]["images"])) == 100
    assert record["versions"]["litert-quantizer"] and record["equalization_error"] < 1e-4


def test_same_images_same_bytes(source, files, data, tmp_path):
    again = quantize(source, "int8", data, tmp_path / "again.tflite", images=100)
    assert again.sha256 == files["int8"].sha256
    other = quantize(source, "int8", data, tmp_path / "other.tflite", images=100, seed=1)
    assert other.sha256 != again.sha256


def test_tf_lite_gives_the_same_quality(source, main_job, data, tmp_path, files):
    recipe = Recipe(name="own", weights="int8", activations="int8", backend="tf.lite")
    made = quantize(source, recipe, data, tmp_path / "tf.tflite", images=100)
    found = compare(main_job / "model.keras", made.path, data)
    assert made.backend == "tf.lite"
    assert abs(found.snr_db - compare(main_job / "model.keras", files["int8"].path, data).snr_db) < 1


def test_it_does_not_matter_how_the_function_is_written(main_job, files, data, tmp_path):
    twin, model = rescale_streams(load_model(main_job / "model.keras")), main_job / "model.keras"
    quantize(twin, "float32", None, tmp_path / "twin.tflite")
    quantize(tmp_path / "twin.tflite", "int8", data, tmp_path / "int8.tflite", images=100)
    quantize(tmp_path / "twin.tflite", PLAIN, data, tmp_path / "plain.tflite", images=100)
    own, rescaled = compare(model, files["int8"].path, data), compare(model, tmp_path / "int8.tflite", data)
    assert abs(rescaled.snr_db - own.snr_db) < 1
    assert rescaled.agreement >= own.agreement - 0.005
    assert compare(model, tmp_path / "plain.tflite", data).snr_db < own.snr_db - 3  # what happens without


def test_float_blocks_buy_agreement(source, data, tmp_path):
    with pytest.raises(DeployError, match=r"min_agreement 1\.0: with every block in float32"):
        coarse = Recipe(name="coarse", weights="int8", activations="int8", ranges="minmax", min_agreement=1.0)
        quantize(source, coarse, data, tmp_path / "never.tflite", images=1)
    assert not (tmp_path / "never.tflite").exists()
    made = quantize(source, "int8_mixed", data, tmp_path / "mixed.tflite", images=100, min_agreement=0.5)
    assert made.fallback.blocks == () and made.fallback.agreement >= 0.5 and made.fallback.size_ratio == 1


def test_float_blocks_and_their_cost(main_job, data, tmp_path):
    twin = rescale_streams(load_model(main_job / "model.keras"), spread=2.0)  # int8 is poor without equalization
    quantize(twin, "float32", None, tmp_path / "twin.tflite")
    pure = quantize(tmp_path / "twin.tflite", PLAIN, data, tmp_path / "pure.tflite", images=100)
    before = compare(main_job / "model.keras", pure.path, data, split="val")
    mixed = dataclasses.replace(PLAIN, min_agreement=before.agreement + 0.001)
    made = quantize(tmp_path / "twin.tflite", mixed, data, tmp_path / "mixed.tflite", images=100)
    after = compare(main_job / "model.keras", made.path, data, split="val")
    assert pure.fallback is None and made.fallback.blocks
    assert after.agreement == pytest.approx(made.fallback.agreement) and after.agreement > before.agreement
    assert made.fallback.size_ratio == pytest.approx(made.size_bytes / pure.size_bytes, rel=0.02)
    assert made.fallback.size_ratio > 1 and made.fallback.latency_ratio > 0.5


def test_blocks_are_found(source):
    blocks = block_names(source.read_bytes())
    assert blocks[0] == "stem" and blocks[-1] == "last_conv" and "stage2_block2" in blocks and len(blocks) == 7


def test_bad_input_is_one_line_and_leaves_nothing(source, data, tmp_path, files):
    target = tmp_path / "x.tflite"
    for message, arguments in {
        "needs real images": (source, "int8", None, target),
        "cannot be quantized with recipe int8": (files["int8"].path, "int8", data, target),
        "expected a .keras file": (source, "float16", data, target),
        "exists already": (source, "int8", data, source),
    }.items():
        with pytest.raises(MixNetError, match=message) as error:
            quantize(*arguments)
        assert "\n" not in str(error.value)
    with pytest.raises(DeployError, match="a report needs a recipe with int8 arithmetic"):
        quantize(source, "float32", None, target, report=tmp_path / "report")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_small_already_is_refused(source, data, tmp_path, files):
    quantize(source, "float32", None, tmp_path / "float32.tflite")
    for name in ("int8_float_io", "weight_int8"):
        for recipe in ("int8", "float32"):
            with pytest.raises(DeployError, match=f"cannot be quantized with recipe {recipe}; expected a float32"):
                quantize(files[name].path, recipe, data, tmp_path / "x.tflite")
    with pytest.raises(DeployError, match=r"takes images of 32 x 32; the image size of a \.tflite is fixed"):
        quantize(source, "int8", data, tmp_path / "x.tflite", image_size=64)


def test_a_report_replaces_nothing(source, data, tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("mine")
    with pytest.raises(MixNetError, match=r"report\.md: exists already"):
        quantize(source, "int8", data, tmp_path / "x.tflite", report=tmp_path / "report")
    assert not (tmp_path / "x.tflite").exists()


def test_what_a_report_cannot_show_is_refused_first(source, data, tmp_path):
    arguments = {"report": tmp_path / "report", "images": 2}
    two = dataclasses.replace(data, class_names=("a", "b"), name="two")
    with pytest.raises(DeployError, match=r"report: the model gives \(1, 10\); expected \(1, 2\), the classes of two"):
        quantize(source, "int8", two, tmp_path / "x.tflite", **arguments)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    bad = dataclasses.replace(
        data, splits=data.splits | {"test": Split((str(tmp_path / "bad.jpg"),), np.zeros(1, int))}
    )
    with pytest.raises(MixNetError, match=r"bad\.jpg"):
        quantize(source, "int8", bad, tmp_path / "x.tflite", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jpg"]


def test_a_report_on_a_file_from_elsewhere(data, tmp_path):
    """One that joins what it computes with a constant, which has no range."""
    kernel = np.random.default_rng(0).normal(size=(32 * 33 * 3, 10)).astype(np.float32)

    def model(image):
        return tf.reshape(tf.concat([image, tf.ones((1, 32, 1, 3))], axis=2), (1, -1)) @ kernel

    (tmp_path / "f.tflite").write_bytes(foreign(model, tf.TensorSpec((1, 32, 32, 3), tf.float32)))
    recipe = Recipe(name="own", weights="int8", activations="int8", backend="tf.lite")  # litert-quantizer refuses it
    quantize(tmp_path / "f.tflite", recipe, data, tmp_path / "x.tflite", images=40, report=tmp_path / "report")
    assert json.loads((tmp_path / "report" / "report.json").read_text())["sensitivity"] == []


def test_fallback_needs_blocks_and_classes(tmp_path, data):
    mixed = Recipe(name="own", weights="int8", activations="int8", min_agreement=0.9)
    image = keras.Input((32, 32, 3), name="image")
    own = keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(image)))
    with pytest.raises(DeployError, match="the model has no stages and blocks"):
        quantize(own, mixed, data, tmp_path / "x.tflite", images=2)
    features = create_model("mixnet_nano", include_top=False, input_shape=(32, 32, 3))
    with pytest.raises(DeployError, match="expected a classifier"):
        quantize(features, mixed, data, tmp_path / "x.tflite", images=2)


def test_few_images_are_noted(source, data, tmp_path):
    made = quantize(source, PLAIN, data, tmp_path / "few.tflite", images=1)
    assert any("calibrated on 1 images; 100 to 500 are usual" in note for note in made.notes)
    assert any("one class" in note for note in made.notes)
    some = dataclasses.replace(data, splits=data.splits | {"train": data.splits["train"].take(np.arange(40))})
    made = quantize(source, PLAIN, some, tmp_path / "some.tflite")
    assert "calibrated on 40 images, all that digits has to train on; 200 were wanted" in made.notes
