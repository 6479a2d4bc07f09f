"""A run's folder stands for the model in it, in every function that takes a model."""

import shutil

import keras
import numpy as np
import pytest

from mixnet_tf.errors import DeployError, MixNetError
from mixnet_tf.evidence.benchmark import benchmark
from mixnet_tf.evidence.classifier import predict
from mixnet_tf.evidence.comparison import compare
from mixnet_tf.evidence.evaluation import evaluate
from mixnet_tf.exporting import export
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.training.run_folder import REQUEST

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), np.uint8)
PAIR = PIXELS, np.arange(10)


@pytest.fixture
def run(trained_nano, fixtures, tmp_path):
    """A run's folder with its model and one ``.tflite``."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copyfile(trained_nano, folder / "model.keras")
    shutil.copyfile(fixtures / "nano_int8.tflite", folder / "model_int8.tflite")
    (folder / REQUEST).write_text("{}")
    return folder


@pytest.mark.slow
def test_its_keras_model_is_evaluated_compared_and_predicts(run):
    file = run / "model.keras"
    assert evaluate(run, PAIR) == evaluate(file, PAIR)
    assert compare(str(run), run / "model_int8.tflite", PAIR) == compare(file, run / "model_int8.tflite", PAIR)
    np.testing.assert_array_equal(predict(run, PIXELS), predict(file, PIXELS))


def test_its_tflite_is_timed_and_inspected(run):
    (latency,) = benchmark([run], rounds=1)
    assert latency.path == inspect_model(run).path == str(run / "model_int8.tflite")


def test_its_keras_model_is_exported(run):
    """Its file is what is opened: an error that is found there names it."""
    with pytest.raises(MixNetError, match=r"run/model\.keras: .*pixels"):
        export(run, run / "other.tflite", recipe="float32", input_format="fractions")


@pytest.mark.parametrize(
    "verb", [lambda run: evaluate(run, PAIR), lambda run: export(run, "x.tflite", recipe="float32")]
)
def test_a_run_that_has_not_ended(run, verb):
    (run / "model.keras").unlink()
    with pytest.raises(MixNetError, match=r"run: its training has not ended, so there is no model\.keras yet"):
        verb(run)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            lambda: [keras.Sequential(name="net")],
            r"model: found <Sequential .*, expected a \.tflite file, which `mixnet",
        ),
        (lambda: ["model.keras"], r"model\.keras: expected a \.tflite file, which `mixnet-tf export model\.keras"),
        (lambda: "model.tflite", r"models: found 'model\.tflite', expected a list of \.tflite files"),
    ],
)
def test_what_cannot_be_timed(models, message):
    with pytest.raises(MixNetError, match=message) as raised:
        benchmark(models())
    assert "\n" not in str(raised.value)


def test_what_is_no_model_at_all():
    with pytest.raises(DeployError, match="cannot deploy a int: expected a built functional"):
        export(3, "x.tflite", recipe="float32")
