"""Models that classify nothing: every output of an int8 file against its float one, worked out with numpy."""

import json

import keras
import numpy as np
import pytest

from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.evidence.comparison import compare
from mixnet_tf.exporting import export
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.metrics import output_errors
from mixnet_tf.saving import load_model

ENDS = ["stage2_block2", "stage1_block1", "last_conv"]  # not in the order of the graph, nor of the alphabet


@pytest.fixture(scope="module")
def features(trained_nano) -> keras.Model:
    nano = load_model(trained_nano)
    return keras.Model(nano.input, [nano.get_layer(name).output for name in ENDS], name="features")


@pytest.fixture(scope="module")
def embedding(trained_nano) -> keras.Model:
    nano = load_model(trained_nano)
    return keras.Model(nano.input, nano.get_layer("avg_pool").output, name="embedding")


def ratio(wanted: np.ndarray, reached: np.ndarray) -> float:
    return 10 * np.log10(np.sum(wanted.astype(float) ** 2) / np.sum((wanted.astype(float) - reached) ** 2))


def test_every_output_is_measured_by_itself():
    rng = np.random.default_rng(0)
    wanted = [rng.normal(size=(7, 2, 3)), rng.normal(size=(7, 5)) * 100]
    reached = [wanted[0] + rng.normal(size=(7, 2, 3)), wanted[1].copy()]
    batches = [([x[:4] for x in wanted], [x[:4] for x in reached]), ([x[4:] for x in wanted], [x[4:] for x in reached])]
    noisy, exact = output_errors(["a", "b"], batches)
    assert (noisy.name, noisy.shape, exact.name, exact.shape) == ("a", (2, 3), "b", (5,))
    assert noisy.snr_db == pytest.approx(ratio(wanted[0], reached[0]))
    images = sorted(ratio(*pair) for pair in zip(wanted[0], reached[0], strict=True))
    assert noisy.snr_median_db == pytest.approx(images[3]) and noisy.snr_low_db == pytest.approx(images[0])
    assert (exact.snr_db, exact.snr_median_db, exact.snr_low_db) == (None, None, None)


@pytest.fixture(scope="module")
def exported(features, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    made = export(features, folder / "f.tflite", recipe="int8", data=digits, images=40, report=folder / "why")
    return folder, made


@pytest.mark.slow
def test_an_int8_file_of_features_is_compared_output_by_output(features, digits, exported):
    folder, _ = exported
    result = compare(features, folder / "f.tflite", digits)
    pixels = np.asarray(digits.splits["test"].images)
    wanted = [np.asarray(output) for output in features(pixels.astype(np.float32), training=False)]
    lite = LiteModel(folder / "f.tflite")
    reached = [np.concatenate(arrays) for arrays in zip(*(lite.run(image[None]) for image in pixels), strict=True)]
    assert [output.name for output in result.outputs] == ENDS and result.count == len(pixels)
    for output, exact, rounded in zip(result.outputs, wanted, reached, strict=True):
        assert output.shape == exact.shape[1:] and output.snr_db == pytest.approx(ratio(exact, rounded), abs=0.01)
        assert output.snr_db > 15
    backwards = keras.Model(features.input, features.outputs[::-1], name="backwards")  # found by their names
    same = compare(backwards, folder / "f.tflite", digits).outputs
    assert [output.snr_db for output in same] == pytest.approx([output.snr_db for output in result.outputs[::-1]])


@pytest.mark.slow
def test_the_record_and_the_report_name_every_output(exported):
    folder, made = exported
    record = json.loads((folder / "f.quantization.json").read_text())
    assert [output["name"] for output in record["outputs"]] == ENDS and record["outputs"][0]["snr_db"] > 15
    assert record["outputs"] == json.loads(json.dumps([vars(output) for output in made.outputs]))
    report, text = json.loads((folder / "why" / "report.json").read_text()), (folder / "why" / "report.md").read_text()
    measured = report["comparison"]["outputs"]
    assert [output["name"] for output in measured] == ENDS and set(report["stability"]["snr_db"]) == set(ENDS)
    assert all(f"| {output['name']} | " in text and f"{output['snr_db']:.1f} dB" in text for output in measured)
    assert "agreement" not in text
    assert {row["block"] for row in report["sensitivity"]} == {
        *ENDS,
        "stem",
        "stage2_block1",
        "stage3_block1",
        "stage3_block2",
    }


@pytest.mark.exhaustive
def test_an_embedding_is_no_classifier(embedding, digits, tmp_path):
    with pytest.raises(
        DeployError, match=r"needs the names of 1536 classes: .*; of a model that gives features, .* int8_float_io$"
    ):
        export(embedding, tmp_path / "f.tflite", recipe="mobile", data=digits, images=4)
    names = [str(i) for i in range(1536)]
    with pytest.raises(
        DeployError, match=r"ends in MEAN, which does not tell .*; for features, .*: --recipe int8_float_io"
    ):
        export(embedding, tmp_path / "f.tflite", recipe="mobile", data=digits, images=4, labels=names)
    made = export(embedding, tmp_path / "f.tflite", recipe="int8_float_io", data=digits, images=40)
    (output,) = compare(embedding, made.path, digits).outputs
    assert output.shape == (1536,) and output.snr_db > 15


@pytest.mark.parametrize("recipe", ["mobile", "int8_mixed"])
def test_what_needs_classes_is_refused_before_anything_is_computed(features, digits, tmp_path, recipe, monkeypatch):
    monkeypatch.setattr("mixnet_tf.float_graphs.deploy_model", None)
    shapes = r"\(1, 8, 8, 16\), .*"
    with pytest.raises(
        DeployError, match=rf"gives {shapes}, and recipe {recipe} needs a classifier, with .*int8_float_io$"
    ):
        export(features, tmp_path / "f.tflite", recipe=recipe, data=digits, images=4)


@pytest.mark.slow
def test_other_outputs_are_refused(features, embedding, digits, exported):
    folder, _ = exported
    fewer = keras.Model(features.input, features.outputs[:2], name="fewer")
    with pytest.raises(MixNetError, match=r"f\.tflite: gives 3 outputs, but fewer gives 2$"):
        compare(fewer, folder / "f.tflite", digits)
    with pytest.raises(MixNetError, match="has 1 inputs and 3 outputs, expected one of each"):
        compare(embedding, folder / "f.tflite", digits)
    assert FlatGraph.read(folder / "f.tflite").shape(FlatGraph.read(folder / "f.tflite").outputs[0]) == (1, 8, 8, 16)


@pytest.mark.exhaustive
def test_the_error_of_a_classifier_is_that_of_its_logits(nano_float32, digits, tmp_path):
    (logits,), (before_the_softmax,) = (
        export(nano_float32, tmp_path / f"{recipe}.tflite", recipe=recipe, data=digits, images=40).outputs
        for recipe in ("int8", "mobile")
    )
    assert logits.shape == (10,) and logits.snr_db > 20 and logits.snr_low_db < logits.snr_median_db
    assert before_the_softmax.snr_db == pytest.approx(logits.snr_db, abs=1e-3)
