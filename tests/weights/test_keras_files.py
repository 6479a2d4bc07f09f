""".keras archives: members and configuration are checked before Keras reads them."""

import json
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from small import SMALL

from mixnet_tf.errors import WeightsError
from mixnet_tf.model import create_model
from mixnet_tf.saving import load_model
from mixnet_tf.weights import h5_files
from mixnet_tf.weights.keras_files import open_keras_file
from mixnet_tf.weights.loading import load_weights
from mixnet_tf.weights.state_dict import open_state_dict


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> dict[str, bytes]:
    """What is in the archive of a small model."""
    path = tmp_path_factory.mktemp("good") / "good.keras"
    create_model(SMALL, classes=3, input_shape=(32, 32, 3)).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(autouse=True)
def without_a_process(monkeypatch):
    """Refuse to start one: what is tested here is refused before any weight is read."""
    monkeypatch.setattr(h5_files.subprocess, "run", lambda *args, **kwargs: pytest.fail("the weights were read"))


def archive(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that are there twice
        for name, data in entries:
            file.writestr(name, data)
    return path


def refused(path: Path) -> str:
    """Return the one line of those who read weights and of those who read the model: the same reason."""
    reasons = []
    for read in (load_model, lambda path: open_state_dict(path).__enter__()):
        with pytest.raises(WeightsError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(str(path)) and message.isprintable() and len(message) < 500
        reasons.append(message)
    return reasons[0]


SYMLINK = zipfile.ZipInfo("config.json")
SYMLINK.external_attr = 0o120777 << 16
MEMBERS = {
    "no configuration": (lambda good: [("model.weights.h5", good["model.weights.h5"])], "holds ['model.weights.h5']"),
    "no weights": (lambda good: [("config.json", b"{}")], "expected metadata.json, config.json, model.weights.h5"),
    "one of them twice": (lambda good: [*good.items(), ("config.json", b"{}")], "each once"),
    "a file outside": (lambda good: [*good.items(), ("../../evil", b"")], "each once"),
    "a name to print": (lambda good: [*good.items(), ("\x1b[31m\n", b"")], r"\x1b[31m\n"),
    "a link": (lambda good: [(SYMLINK, b"/etc/passwd"), *list(good.items())[2:]], "Expecting value"),
    "a zip in a zip": (lambda good: [("a.keras", b"PK"), *good.items()], "each once"),
    "a bomb of text": (
        lambda good: list((good | {"config.json": b" " * 2**25}).items()),
        "config.json unpacks to 33554432 bytes, too many for a MixNet; expected at most 1048576",
    ),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_members(tmp_path, members, case):
    make, reason = MEMBERS[case]
    assert reason in refused(archive(tmp_path / "a.keras", make(members)))


def test_weights_that_unpack_to_more_than_a_mixnet(tmp_path, members, monkeypatch):
    path = archive(tmp_path / "a.keras", list(members.items()))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"model.weights.h5"))
    content[entry + 24 : entry + 28] = (7 * 10**8).to_bytes(4, "little")  # the size in the archive's directory
    path.write_bytes(content)
    assert "model.weights.h5 unpacks to 700000000 bytes, too many for a MixNet" in refused(path)


def test_encrypted_and_damaged_members(tmp_path, members):
    path = archive(tmp_path / "a.keras", list(members.items()))
    good = path.read_bytes()
    content = bytearray(good)
    for signature, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            content[at + flags] |= 1
    path.write_bytes(content)
    assert "encrypted" in refused(path)
    content = bytearray(good)
    content[content.index(b"config.json") + 30] ^= 1
    path.write_bytes(content)
    assert "not a readable .keras" in refused(path)


CONFIGS = {
    "a list": (b"[]", "config.json holds a list"),
    "not a number": (b'{"class_name": NaN}', "config.json holds the number NaN"),
    "infinity": (b'{"class_name": -Infinity}', "config.json holds the number -Infinity"),
    "too deep": (b"[" * 500_000, "recursion"),
    "a very long number": (b'{"a": ' + b"9" * 10_000 + b"}", "Exceeds the limit"),
    "no text": (b"\xff\xfe\xfd", "codec"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations_that_are_none(tmp_path, members, case):
    text, reason = CONFIGS[case]
    assert reason in refused(archive(tmp_path / "a.keras", list((members | {"config.json": text}).items())))


@keras.saving.register_keras_serializable("tests")
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x


CLASSES = [
    {"module": "os", "class_name": "system"},
    {"module": "os", "class_name": "system", "registered_name": "os>system"},
    {"module": "mixnet_tf.evil", "class_name": "MixDepthBlock", "registered_name": None},
    {"module": "keras", "class_name": "utils.get_file"},
    {"module": "keras.utils", "class_name": "get_file"},
    {"module": "keras.datasets.mnist", "class_name": "load_data"},
    {"module": "keras.layers", "class_name": "TFSMLayer"},
    {"module": "keras.layers", "class_name": ["Dense"]},
    {"module": "builtins", "class_name": "__lambda__"},
    {"module": None, "class_name": "__numpy__"},
    {"module": "keras.datasets", "class_name": "function", "config": "mnist.load_data"},
    {"module": ["keras"], "class_name": "Dense"},
]


@pytest.mark.parametrize("names", CLASSES, ids=lambda names: f"{names['module']}.{names['class_name']}")
def test_classes_from_elsewhere_are_refused(tmp_path, members, monkeypatch, names):
    config = json.loads(members["config.json"])
    config["config"]["layers"][1] |= {"config": {}, "registered_name": None} | names
    path = archive(tmp_path / "a.keras", list((members | {"config.json": json.dumps(config).encode()}).items()))
    with pytest.raises(WeightsError, match=r"names the class .*expected layers of Keras and mixnet_tf") as caught:
        load_model(path)
    assert str(caught.value).isprintable()


class TestWithProcess:
    """These read the weights."""

    @pytest.fixture(autouse=True)
    def without_a_process(self):
        """Let the process start."""

    @pytest.mark.slow
    def test_layers_of_keras_and_registered_ones_are_loaded(self, tmp_path):
        inputs = keras.Input((32, 32, 3))
        x = Twice()(keras.layers.Rescaling(0.5)(inputs))
        model = keras.Model(inputs, create_model(SMALL, classes=3, input_shape=(32, 32, 3))(x))
        adamw = keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.1, 10))
        model.compile(adamw, "mse", metrics=["mae"], run_eagerly=True)
        model.fit(np.zeros((2, 32, 32, 3)), np.zeros((2, 3)), verbose=0)
        model.save(tmp_path / "a.keras")
        loaded = load_model(tmp_path / "a.keras")
        images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("f4")
        assert np.array_equal(loaded(images), model(images))
        assert isinstance(loaded.optimizer, keras.optimizers.AdamW)
        variables = zip(loaded.optimizer.variables, model.optimizer.variables, strict=True)
        assert all(np.array_equal(one, another) for one, another in variables) and loaded.optimizer.iterations == 1

    @pytest.mark.parametrize(
        ("units", "reason"), [(10**7, "wants 15"), (10**9, "wants 15"), (10**30, "not a readable")]
    )
    def test_a_layer_larger_than_the_weights_gets_no_memory(self, tmp_path, members, units, reason):
        config = json.loads(members["config.json"])
        config["config"]["layers"][-1]["config"]["units"] = units
        path = archive(tmp_path / "a.keras", list((members | {"config.json": json.dumps(config).encode()}).items()))
        with pytest.raises(WeightsError, match=reason):
            load_model(path)
        assert create_model(SMALL, classes=3).count_params() < 10**6  # Keras gives the refused ones no value later

    def test_a_metric_larger_than_the_weights_gets_no_memory(self, tmp_path, members):
        metric = keras.saving.serialize_keras_object(keras.metrics.MeanIoU(2))
        metric["config"]["num_classes"] = 10**5
        config = json.loads(members["config.json"]) | {"compile_config": {"loss": "mse", "metrics": [metric]}}
        path = archive(tmp_path / "a.keras", list((members | {"config.json": json.dumps(config).encode()}).items()))
        with pytest.raises(WeightsError, match=r"config\.json wants 10000\d+ weights"):
            load_model(path)

    def test_a_lambda_is_never_run(self, tmp_path):
        inputs = keras.Input((4,))
        keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(tmp_path / "a.keras")
        with pytest.raises(WeightsError, match=r"not a readable .keras model.*__lambda__"):
            load_model(tmp_path / "a.keras")

    def test_the_configuration_and_a_clean_copy_of_the_weights_come_out(self, tmp_path, members):
        path = archive(tmp_path / "a.keras", list(members.items()))
        with open_keras_file(path) as file:
            assert file.config == json.loads(members["config.json"]) and file.paddings == {"symmetric"}
            assert file.weights.read_bytes()[:4] == b"\x89HDF"

    def test_the_other_padding_of_blocks_is_refused_and_of_other_layers_not(self, tmp_path, members):
        path = archive(tmp_path / "a.keras", list(members.items()))
        with pytest.raises(WeightsError, match="its padding is 'symmetric', the model's is 'same'"):
            load_weights(create_model(SMALL, classes=3, padding="same"), path)
        config = json.loads(members["config.json"])
        config["config"]["layers"][0]["config"]["padding"] = "same"  # says nothing about a block
        archive(path, list((members | {"config.json": json.dumps(config).encode()}).items()))
        load_weights(create_model(SMALL, classes=3), path)

    def test_what_is_no_model_is_refused(self, tmp_path, members):
        dense = keras.saving.serialize_keras_object(keras.layers.Dense(3))
        path = archive(tmp_path / "a.keras", list((members | {"config.json": json.dumps(dense).encode()}).items()))
        with pytest.raises(WeightsError, match="holds no model that knows its inputs"):
            load_model(path)
