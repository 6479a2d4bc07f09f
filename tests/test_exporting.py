"""From a model to a ``.tflite`` on disk: the file, its record, and what is refused before anything is written."""

import dataclasses
import functools
import hashlib
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from foreign import foreign
from marks import exhaustive
from PIL import Image
from recipes import PLAIN

from mixnet_tf import files, float_graphs
from mixnet_tf.data.dataset import Split
from mixnet_tf.data.pixels import preprocess_input
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.evidence.classifier import open_classifier
from mixnet_tf.exporting import export
from mixnet_tf.float_graphs import KerasSource
from mixnet_tf.litert.description import About
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.model import create_model
from mixnet_tf.quantization.recipe import Recipe

CONFIG = Path(__file__).with_name("tiny.yaml")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return create_model(CONFIG, classes=10, classifier_activation=None)


@pytest.fixture(scope="module")
def few(digits):
    """Forty training images: as many as the notes about few images need."""
    return dataclasses.replace(
        digits, splits=dict(digits.splits) | {"train": digits.splits["train"].take(np.arange(40))}
    )


@pytest.mark.slow
def test_the_record_says_how_the_file_was_made(nano_float32, digits, tmp_path):
    made = export(nano_float32, tmp_path / "f.tflite", recipe="int8", data=digits, images=36)
    content, record = (tmp_path / "f.tflite").read_bytes(), json.loads((tmp_path / "f.quantization.json").read_text())
    assert record == json.loads(json.dumps(dataclasses.asdict(made)))
    assert record["sha256"] == hashlib.sha256(content).hexdigest() and record["size_bytes"] == len(content)
    assert record["recipe"]["name"] == "int8" and record["backend"] == "litert-quantizer"
    assert record["calibration"]["data"] == "digits" and len(set(record["calibration"]["images"])) == 36
    assert record["versions"]["litert-quantizer"] and record["equalization_error"] < 1e-4
    assert record["notes"] == [
        "nano_float32.tflite is taken as it is: only a .keras file can be rewritten as the deploy graph"
    ]
    assert record["skipped_images"] == [] and record["fallback"] is None


@pytest.mark.slow
def test_the_committed_int8_file_comes_out_again(nano_float32, nano_int8, digits, tmp_path):
    """Nearly: scales and weights may differ by the last rounding between CPUs."""
    made = export(nano_float32, tmp_path / "f.tflite", recipe="int8", data=digits)
    wanted, reached = FlatGraph(nano_int8.read_bytes()), FlatGraph(Path(made.path).read_bytes())
    assert [op.name for op in reached.ops] == [op.name for op in wanted.ops]
    for index in range(len(wanted.tensors)):
        assert reached.name(index) == wanted.name(index)
        if (scale := wanted.tensor(index).scale) is not None:  # the same on every CPU but for rounding of float sums
            assert reached.tensor(index).scale == pytest.approx(scale, rel=1e-3)
        if wanted.is_constant(index):
            difference = reached.constant(index).astype(np.int64) - wanted.constant(index)
            assert (difference == 0).mean() >= 0.9


@pytest.mark.parametrize(
    ("graph", "recipe"),
    [
        ("deploy", "float32"),
        ("plain", "float16"),
        *exhaustive(("deploy", "float16"), ("plain", "float32")),
    ],
)
def test_both_graphs_compute_what_the_model_computes(graph, recipe, model, tmp_path):
    made = export(model, tmp_path / "f.tflite", recipe=recipe, graph=graph, image_size=40)
    assert made.calibration is None and made.backend is None and made.notes == ()
    image = np.random.default_rng(0).standard_normal((1, 40, 40, 3)).astype(np.float32)
    wanted = np.asarray(model(image, training=False))
    tolerance = {"float32": 1e-4, "float16": 1e-2}[recipe] * np.abs(wanted).max()
    np.testing.assert_allclose(LiteModel(made.path)(image), wanted, atol=tolerance)


@pytest.mark.slow
def test_the_plain_baseline_is_int8_of_the_plain_graph(model, few, tmp_path):
    made = export(model, tmp_path / "f.tflite", recipe="int8_baseline", graph="plain", data=few, image_size=32)
    graph = FlatGraph(Path(made.path).read_bytes())
    assert made.backend == "tf.lite" and not graph.float_tensors()
    assert "SPLIT" in {op.name for op in graph.ops}  # which the deploy graph does not have
    assert made.notes == ("calibrated on 40 images, all that digits has to train on; 200 were wanted",)


@pytest.mark.slow
def test_a_source_makes_each_float_graph_once(model, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        float_graphs, "deploy_model", lambda *a, **k: calls.append(k["target"]) or deploy_model(*a, **k)
    )
    source = KerasSource(model, image_size=32)
    sizes = [export(source, tmp_path / f"{name}.tflite", recipe=name).size_bytes for name in ("float32", "float16")]
    assert calls == ["float"] and sizes[1] < 0.6 * sizes[0]


def test_a_file_and_its_record_are_replaced_together(nano_float32, tmp_path, monkeypatch):
    """Ctrl-C falls between the two: the earlier pair is back."""
    path, record = tmp_path / "f.tflite", tmp_path / "f.quantization.json"
    export(nano_float32, path, recipe="float32")
    before, place = (path.read_bytes(), record.read_bytes()), files._place

    def interrupted(part, target, overwrite):
        if target == path:
            raise KeyboardInterrupt
        place(part, target, overwrite)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "_place", interrupted)
        export(nano_float32, path, recipe="weight_int8", overwrite=True)
    assert (path.read_bytes(), record.read_bytes()) == before and set(tmp_path.iterdir()) == {path, record}
    made = export(nano_float32, path, recipe="weight_int8", graph="plain", overwrite=True)
    assert json.loads(record.read_text())["sha256"] == made.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def wrong_by_one_weight(model, **arguments):
    deployed = deploy_model(model, **arguments)
    layer = deployed.get_layer("last_conv_conv")
    kernel, bias = layer.get_weights()
    bias[0] += 10
    layer.set_weights([kernel, bias])
    return deployed


@pytest.mark.parametrize("recipe", ["float32", "int8"])
def test_a_deploy_graph_that_differs_is_never_written(recipe, model, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(float_graphs, "deploy_model", wrong_by_one_weight)
    with pytest.raises(DeployError, match="differs from it: it begins at layer 'last_conv'"):
        export(model, tmp_path / "made" / "f.tflite", recipe=recipe, image_size=32, data=digits, images=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_sequential_model_around_ours(tmp_path):
    backbone = create_model(CONFIG, include_top=False, pooling="avg")
    model = keras.Sequential([keras.Input((None, None, 3)), backbone, keras.layers.Dense(3)])
    made = export(model, tmp_path / "f.tflite", recipe="float32", image_size=40)
    image = np.random.default_rng(0).standard_normal((1, 40, 40, 3)).astype(np.float32)
    np.testing.assert_allclose(
        LiteModel(made.path)(image), np.asarray(model(image, training=False)), rtol=1e-3, atol=1e-5
    )


def test_a_model_without_a_bias_has_nothing_to_correct(digits, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Dense(10, use_bias=False)(keras.layers.Flatten()(image)))
    made = export(model, tmp_path / "f.tflite", recipe="int8", data=digits, images=40, input_format="signed")
    image = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
    output, wanted = LiteModel(made.path)(image), np.asarray(model(image))
    np.testing.assert_allclose(output, wanted, atol=0.05 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph": "depoly"}, r"graph: found 'depoly', expected .*deploy.*did you mean 'deploy'"),
        ({"graph": None}, "graph: found None, expected"),
        ({"recipe": "flaot32"}, r"no recipe called 'flaot32' \(did you mean 'float32'\?\)"),
        ({"image_size": "32"}, "image_size: found '32', expected pixels as an integer or"),
        ({"image_size": (32, "32")}, r"image_size: found \(32, '32'\), expected"),
        ({"image_size": 32.5}, r"image_size: found 32\.5, expected"),
        ({"image_size": None}, r"takes images of any size; give the image size \(--image-size\)"),
        ({"recipe": "int8", "images": 0}, "count: found 0, expected an integer from 1"),
        ({"recipe": "int8", "data": None}, "recipe int8 needs real images to find the range of every tensor"),
        ({"output": "f.keras"}, r"f\.keras: expected a name that ends in \.tflite"),
        ({"report": "report"}, "recipe float32 has float arithmetic; a report needs a recipe with int8 arithmetic"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, model, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"recipe": "float32", "image_size": 32, "data": digits, "output": "f.tflite"} | arguments
    with pytest.raises(MixNetError, match=message) as caught:
        export(model, **given)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_quantized_are_refused(nano_float32, nano_int8, fixtures, digits, tmp_path):
    target = tmp_path / "x.tflite"
    subgraphs = fixtures / "odd" / "three_subgraphs.tflite"
    for message, source, recipe, arguments in (
        ("cannot be quantized with recipe int8; expected a float32", nano_int8, "int8", {}),
        ("cannot be quantized with recipe float32; expected a float32", nano_int8, "float32", {}),
        ("expected a .keras file", nano_float32, "float16", {}),
        (r"takes images of 32 x 32; the image size of a \.tflite is fixed", nano_float32, "int8", {"image_size": 64}),
        (r"three_subgraphs\.tflite: a \.tflite with 3 subgraphs, expected one", subgraphs, "float32", {}),
        ("no such file", tmp_path / "none.tflite", "int8", {}),
        ("no such file", tmp_path / "none.keras", "int8", {}),
    ):
        with pytest.raises(MixNetError, match=message) as caught:
            export(source, target, recipe=recipe, data=digits, images=4, **arguments)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unless_asked(nano_float32, digits, tmp_path):
    (tmp_path / "f.tflite").write_text("mine")
    with pytest.raises(MixNetError, match=r"f\.tflite: exists already"):
        export(nano_float32, tmp_path / "f.tflite", recipe="float32")
    (tmp_path / "g.quantization.json").write_text("mine")
    with pytest.raises(MixNetError, match=r"g\.quantization\.json: exists already"):
        export(nano_float32, tmp_path / "g.tflite", recipe="float32")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text("mine")
    with pytest.raises(MixNetError, match=r"report\.md: exists already"):
        arguments = {"recipe": "int8", "data": digits, "report": tmp_path / "report"}
        export(nano_float32, tmp_path / "x.tflite", **arguments)
    assert not (tmp_path / "x.tflite").exists() and (tmp_path / "f.tflite").read_text() == "mine"
    export(nano_float32, tmp_path / "f.tflite", recipe="float32", overwrite=True)
    assert (tmp_path / "f.tflite").read_bytes()[4:8] == b"TFL3"


def test_few_images_are_noted(nano_float32, digits, tmp_path):
    made = export(nano_float32, tmp_path / "few.tflite", recipe=PLAIN, data=digits, images=1)
    assert any("calibrated on 1 images; 100 to 500 are usual" in note for note in made.notes)
    assert any("one class" in note for note in made.notes)


def test_what_a_report_cannot_show_is_refused_first(nano_float32, digits, tmp_path):
    arguments = {"recipe": "int8", "report": tmp_path / "report", "images": 2}
    two = dataclasses.replace(digits, class_names=("a", "b"), name="two")
    with pytest.raises(DeployError, match=r"report: the model gives \(1, 10\); expected \(1, 2\), the classes of two"):
        export(nano_float32, tmp_path / "x.tflite", data=two, **arguments)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    bad_split = Split((str(tmp_path / "bad.jpg"),), np.zeros(1, int))
    bad = dataclasses.replace(digits, splits=dict(digits.splits) | {"test": bad_split})
    with pytest.raises(MixNetError, match=r"bad\.jpg"):
        export(nano_float32, tmp_path / "x.tflite", data=bad, **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jpg"]


@pytest.mark.exhaustive
def test_fallback_costs_are_measured(nano_float32, digits, tmp_path):
    made = export(nano_float32, tmp_path / "f.tflite", recipe="int8_mixed", data=digits, images=20, min_agreement=0.5)
    assert made.fallback is not None and made.recipe.min_agreement == 0.5
    assert (made.fallback.blocks, made.fallback.size_ratio, made.fallback.latency_ratio) == ((), 1.0, 1.0)
    assert made.fallback.images == 143  # the validation split of the digits


@pytest.mark.slow
def test_float_blocks_cost_size(nano_float32, digits, tmp_path):
    pure = export(nano_float32, tmp_path / "pure.tflite", recipe=PLAIN, data=digits, images=2)
    for agreement in (0.99, 0.999, 1.0):
        recipe = dataclasses.replace(PLAIN, min_agreement=agreement)
        mixed = export(nano_float32, tmp_path / "m.tflite", recipe=recipe, data=digits, images=2, overwrite=True)
        assert mixed.fallback is not None and mixed.fallback.agreement >= agreement
        if mixed.fallback.blocks:
            assert mixed.fallback.size_ratio == pytest.approx(mixed.size_bytes / pure.size_bytes, rel=1e-3)
            assert mixed.fallback.size_ratio > 1 and mixed.fallback.latency_ratio > 0.3
            return
    pytest.fail("no agreement asked for a block in float32")


def test_a_report_on_a_file_from_elsewhere(digits, tmp_path):
    """One that joins what it computes with a constant, which has no range."""
    kernel = np.random.default_rng(0).normal(size=(32 * 33 * 3, 10)).astype(np.float32)

    def model(image):
        return tf.reshape(tf.concat([image, tf.ones((1, 32, 1, 3))], axis=2), (1, -1)) @ kernel

    (tmp_path / "f.tflite").write_bytes(foreign(model, tf.TensorSpec((1, 32, 32, 3), tf.float32)))
    recipe = Recipe(name="own", weights="int8", activations="int8", backend="tf.lite")  # litert-quantizer refuses it
    report = tmp_path / "report"
    given = {"data": digits, "images": 40, "input_format": "fractions"}
    export(tmp_path / "f.tflite", tmp_path / "x.tflite", recipe=recipe, report=report, **given)
    assert json.loads((report / "report.json").read_text())["sensitivity"] == []


def test_a_foreign_float_file_is_written_as_it_was(fixtures, tmp_path):
    content = (fixtures / "tiny" / "classifier.tflite").read_bytes() + b"labels, zipped behind the flatbuffer"
    (tmp_path / "f.tflite").write_bytes(content)
    made = export(tmp_path / "f.tflite", tmp_path / "g.tflite", recipe="float32")
    assert (tmp_path / "g.tflite").read_bytes() == content and made.size_bytes == len(content)


def test_a_foreign_file_with_two_outputs_is_taken_but_for_what_needs_classes(fixtures, tmp_path):
    source = fixtures / "odd" / "two_outputs.tflite"
    with pytest.raises(DeployError, match=r"and recipe mobile_float32 needs a classifier, .*; take --recipe float32$"):
        export(source, tmp_path / "f.tflite", recipe="mobile_float32", input_format="pixels")
    assert not list(tmp_path.iterdir())
    export(source, tmp_path / "f.tflite", recipe="float32", input_format="pixels")
    assert (tmp_path / "f.tflite").read_bytes() == source.read_bytes()


def test_an_agreement_out_of_range_is_refused_and_leaves_nothing(nano_float32, digits, tmp_path):
    with pytest.raises(MixNetError, match=r"min_agreement: found 1\.5, expected a number from 0 to 1"):
        export(nano_float32, tmp_path / "f.tflite", recipe=PLAIN, data=digits, images=1, min_agreement=1.5)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_numbers(nano_float32, digits, tmp_path):
    arguments = {"images": np.int64(4), "seed": np.int64(1), "min_agreement": np.float64(0.1)}
    export(nano_float32, tmp_path / "f.tflite", recipe=PLAIN, data=digits, **arguments)
    record = json.loads((tmp_path / "f.quantization.json").read_text())
    assert record["calibration"]["seed"] == 1 and record["recipe"]["min_agreement"] == 0.1


def test_every_skipped_image_is_reported_and_recorded(digits, fixtures, tmp_path):
    """A bad one each among the calibration's, the judges' and the report's images."""
    names = {}
    for split in ("train", "val", "test"):
        images = [tmp_path / f"{split}{i}.png" for i in range(41)]
        for i, path in enumerate(images[1:]):
            Image.fromarray(np.asarray(digits.splits["train"].images[i])).save(path)
        images[0].write_bytes(b"no image")
        names[split] = Split(tuple(map(str, images)), np.arange(41, dtype=np.int32) % 3)
    data = dataclasses.replace(
        digits, name="files", class_names=("a", "b", "c"), splits=names, image_size=None, on_bad_image="skip"
    )
    recipe = dataclasses.replace(PLAIN, min_agreement=0.0)
    source = fixtures / "tiny" / "classifier.tflite"
    given = {"data": data, "input_format": "fractions", "report": tmp_path / "report"}
    made = export(source, tmp_path / "f.tflite", recipe=recipe, **given)
    bad = sorted(str(tmp_path / f"{split}0.png") for split in names)
    assert list(made.skipped_images) == bad
    assert json.loads((tmp_path / "f.quantization.json").read_text())["skipped_images"] == bad
    assert json.loads((tmp_path / "report" / "report.json").read_text())["file"]["skipped_images"] == bad


@pytest.mark.slow
def test_weights_alone_lose_less_than_all_in_int8(nano_float32, digits, tmp_path):
    images = np.asarray(digits.splits["test"].images[:100])
    wanted, errors = LiteModel(nano_float32)(images), {}
    for name in ("weight_int8", "int8"):
        export(nano_float32, tmp_path / f"{name}.tflite", recipe=name, data=digits, images=40)
        errors[name] = np.square(LiteModel(tmp_path / f"{name}.tflite")(images) - wanted).sum()
    assert errors["weight_int8"] < errors["int8"] / 2  # 3 dB


NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def test_the_file_to_ship(nano_float32, digits, tmp_path):
    """uint8 pixels in, float probabilities out: those of the int8 logits that recipe int8 gives."""
    about = About(name="reader", version="3")
    export(nano_float32, tmp_path / "m.tflite", data=digits, images=20, labels=NAMES, about=about)
    export(nano_float32, tmp_path / "int8.tflite", recipe="int8", data=digits, images=20)
    shipped, plain = LiteModel(tmp_path / "m.tflite"), LiteModel(tmp_path / "int8.tflite")
    assert (shipped.input["dtype"], shipped.output["dtype"]) == (np.uint8, np.float32)
    assert shipped.input["quantization"] == (1.0, 0)  # a pixel is what it is
    images = np.stack(list(digits.splits["test"].images[:40]))
    logits = plain(images).astype(np.float64)
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(shipped(images), likely / likely.sum(axis=1, keepdims=True), atol=1e-6)
    table = inspect_model(tmp_path / "m.tflite")
    assert (table.about, table.labels, table.input_format, table.scores) == (about, NAMES, "pixels", "softmax")


@pytest.mark.slow
def test_its_float_twin_takes_pixels_whatever_the_model_takes(digits, tmp_path):
    keras.utils.set_random_seed(0)
    model = create_model(CONFIG, classes=10, classifier_activation=None, include_preprocessing=False)
    export(model, tmp_path / "m.tflite", recipe="mobile_float32", image_size=32, data=digits)
    images = np.stack(list(digits.splits["test"].images[:4]))
    expected = keras.ops.softmax(model(preprocess_input(images.astype(np.float32))))
    given = LiteModel(tmp_path / "m.tflite")
    np.testing.assert_allclose(given(images), expected, atol=1e-5)  # as our commands feed it
    np.testing.assert_allclose(given(images.astype(np.float32)), expected, atol=1e-5)  # as anybody does
    assert inspect_model(tmp_path / "m.tflite").input_format == "pixels"


@pytest.mark.slow
def test_a_model_that_ends_in_softmax_is_not_softened_twice(digits, tmp_path):
    keras.utils.set_random_seed(0)
    model = create_model(CONFIG, classes=10, classifier_activation="softmax")
    source = KerasSource(model, image_size=32)
    export(source, tmp_path / "m.tflite", recipe="mobile_float32", data=digits)
    export(source, tmp_path / "l.tflite", recipe="mobile_float32", scores="logits", data=digits)
    images = np.stack(list(digits.splits["test"].images[:4]))
    likely, logits = (LiteModel(tmp_path / name)(images) for name in ("m.tflite", "l.tflite"))
    np.testing.assert_allclose(likely, model(images.astype(np.float32)), atol=1e-5)
    np.testing.assert_allclose(keras.ops.softmax(logits), likely, atol=1e-6)
    with pytest.raises(DeployError, match="ends in softmax; expected --scores softmax or logits, found sigmoid"):
        export(source, tmp_path / "s.tflite", recipe="mobile_float32", scores="sigmoid", data=digits)


@pytest.mark.parametrize(
    ("recipe", "labels", "message"),
    [
        ("mobile", list("abc"), "labels: found 3, expected 10"),
        ("mobile_float32", None, "needs the names of 10 classes"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_anything_is_computed(
    trained_nano, tmp_path, monkeypatch, recipe, labels, message
):
    """They were found after minutes."""
    shutil.copy(trained_nano, tmp_path / "model.keras")  # where no labels lie beside it
    monkeypatch.setattr("mixnet_tf.float_graphs.deploy_model", None)
    data = None if recipe == "mobile_float32" else "digits"
    with pytest.raises(MixNetError, match=message):
        export(tmp_path / "model.keras", tmp_path / "m.tflite", recipe=recipe, labels=labels, data=data)


@pytest.mark.exhaustive
def test_where_labels_come_from(model, nano_float32, tmp_path):
    make, run = functools.partial(export, image_size=32), tmp_path / "run"
    run.mkdir()
    model.save(run / "model.keras")
    with pytest.raises(DeployError, match=r"recipe mobile_float32 needs the names of 10 classes: give --labels"):
        make(run / "model.keras", run / "m.tflite", recipe="mobile_float32")
    (run / "labels.txt").write_text("\n".join(NAMES))
    make(run / "model.keras", run / "m.tflite", recipe="mobile_float32")
    assert inspect_model(run / "m.tflite").labels == NAMES  # beside the model
    (run / "labels.txt").unlink()
    make(run / "m.tflite", run / "w.tflite", recipe="weight_int8")
    assert inspect_model(run / "w.tflite").labels == NAMES  # inside the .tflite: a file made of it keeps them
    make(run / "m.tflite", run / "same.tflite", recipe="float32")
    assert (run / "same.tflite").read_bytes() == (run / "m.tflite").read_bytes()
    make(nano_float32, run / "d.tflite", recipe="mobile_float32", data="digits")
    assert inspect_model(run / "d.tflite").labels == tuple("0123456789")  # the data's
    make(nano_float32, run / "f.tflite", recipe="float32")
    assert inspect_model(run / "f.tflite").labels is None  # this recipe does without
    with pytest.raises(MixNetError, match="labels: found 2, expected 10"):
        make(run / "model.keras", run / "x.tflite", recipe="mobile_float32", labels=["a", "b"])


def test_a_foreign_file_that_gets_labels_still_says_what_it_takes(tmp_path):
    """What it says in its metadata, or what its user says: the metadata is written anew."""
    kernel = np.random.default_rng(0).normal(size=(48, 10)).astype(np.float32)

    def model(x):
        return tf.reshape(x, (1, 48)) @ kernel

    path, image = tmp_path / "theirs.tflite", tf.TensorSpec((1, 4, 4, 3), tf.float32, name="image")
    path.write_bytes(foreign(model, image))
    export(path, tmp_path / "said.tflite", recipe="float32", labels=NAMES, input_format="signed")
    about = About(name="theirs", author="Ada")
    export(tmp_path / "said.tflite", tmp_path / "again.tflite", recipe="float32", labels=NAMES[::-1], about=about)
    export(tmp_path / "again.tflite", tmp_path / "twice.tflite", recipe="float32", about=About(version="2"))
    table = inspect_model(tmp_path / "twice.tflite")
    assert (table.input_format, table.labels) == ("signed", NAMES[::-1])
    assert table.about == About(name="theirs", author="Ada", version="2")


@pytest.mark.slow
def test_the_crop_of_the_training_travels_with_the_model(model, tmp_path):
    model.save(tmp_path / "model.keras")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    (tmp_path / "training.json").write_text('{"crop_fraction": 1.0}')
    export(tmp_path, tmp_path / "m.tflite", recipe="mobile_float32", image_size=32)
    assert open_classifier(tmp_path / "m.tflite").crop_fraction == 1.0
