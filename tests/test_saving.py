"""Models from and to files: ``.keras``, and the model that a state dict belongs to."""

import io
import subprocess
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest
from small import SMALL
from states import outputs, prelu_config, random_state, same, small, without_classifier

from mixnet_tf.errors import MixNetError, WeightsError
from mixnet_tf.model import create_model
from mixnet_tf.saving import import_weights, load_model, save_model
from mixnet_tf.weights.loading import export_state_dict, load_weights


@pytest.mark.parametrize("names", ["timm", "netspresso"])
def test_import_takes_the_number_of_classes_from_the_file(names, tmp_path):
    source = small(classes=7)
    load_weights(source, random_state(source))
    export_state_dict(source, names, tmp_path / "seven.safetensors")
    model = import_weights(tmp_path / "seven.safetensors", SMALL, image_size=32)
    assert model.input_shape == (None, 32, 32, 3) and model.output_shape == (None, 7)
    np.testing.assert_allclose(outputs(model)[0], outputs(source)[0], rtol=1e-5)
    assert import_weights(tmp_path / "seven.safetensors", SMALL).input_shape == (None, None, None, 3)


def test_import_of_our_files_and_long_heads(tmp_path):
    source = create_model(prelu_config(3), classes=4)
    source.save(tmp_path / "four.keras")
    assert same(import_weights(tmp_path / "four.keras", prelu_config(3)), source)
    assert import_weights(export_state_dict(source, "netspresso"), prelu_config(3)).output_shape == (None, 4)


def test_import_for_another_size_padding_and_activation():
    source = small(padding="same", classifier_activation=None)
    state = random_state(source)
    load_weights(source, state)
    model = import_weights(state, SMALL, image_size=(32, 48), padding="same", classifier_activation=None)
    assert model.input_shape == (None, 32, 48, 3)
    x = np.random.default_rng(0).standard_normal((1, 32, 48, 3)).astype(np.float32)
    source = import_weights(state, SMALL, padding="symmetric", classifier_activation=None)
    assert np.abs(model(x) - source(x)).max() > 1e-3  # stride 2 at even sizes
    with pytest.raises(MixNetError, match="image_size: found 0, expected pixels"):
        import_weights(state, SMALL, image_size=0)


def test_import_without_a_classifier_or_for_another_network_says_so():
    state = random_state(small())
    with pytest.raises(WeightsError, match=r"no classifier .*number of classes is unknown"):
        import_weights(without_classifier(state), SMALL)
    with pytest.raises(WeightsError, match="missing: 'blocks"):
        import_weights(state, "mixnet_nano")


def test_a_classifier_of_a_million_classes_that_is_not_there_takes_no_memory():
    state = random_state(small())
    state |= {"classifier.bias": np.zeros(10**6, np.float32), "classifier.weight": np.zeros((10**6, 1), np.float32)}
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"holds \d+ numbers, expected the \d+ of this network with 1000000 classes"):
        import_weights(state, SMALL)
    assert tracemalloc.get_traced_memory()[1] < 10**8
    tracemalloc.stop()


def test_a_keras_file_is_unpacked_once(tmp_path, monkeypatch):
    small().save(tmp_path / "model.keras")
    runs, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: runs.append(args) or run(*args, **options))
    import_weights(tmp_path / "model.keras", SMALL)
    assert len(runs) == 1


@pytest.mark.slow
def test_a_loaded_model_is_the_one_that_keras_loads(trained_nano):
    ours, theirs = load_model(trained_nano), keras.saving.load_model(trained_nano)
    assert ours.get_config() == theirs.get_config()
    assert [variable.path for variable in ours.variables] == [variable.path for variable in theirs.variables]
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))


def test_damaged_weights_in_a_model_are_one_line(trained_nano, tmp_path):
    with zipfile.ZipFile(trained_nano) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with h5py.File(io.BytesIO(members["model.weights.h5"]), "r+") as file:
        del file["layers/dense/vars/1"]
        content = file.id.get_file_image()
    path = tmp_path / "\x1b[31m.keras"
    for weights in (content, members["model.weights.h5"][:-1000], b""):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in (members | {"model.weights.h5": weights}).items():
                archive.writestr(name, data)
        with pytest.raises(WeightsError, match=r"not a readable \.keras model") as caught:
            load_model(path)
        assert str(caught.value).isprintable()


def test_nan_is_imported_only_when_allowed():
    state = random_state(small())
    state["bn1.bias"] = np.full(8, np.nan, np.float32)
    with pytest.raises(WeightsError, match=r"1 with NaN, .*'bn1\.bias'"):
        import_weights(state, SMALL)
    assert np.isnan(import_weights(state, SMALL, allow_nan=True).get_layer("stem").bn.beta).all()


def test_a_saved_model_comes_back_without_its_optimizer(tmp_path):
    model = small()
    load_weights(model, random_state(model))
    model.compile("adam", "sparse_categorical_crossentropy")
    save_model(model, tmp_path / "new" / "model.keras")
    loaded = load_model(tmp_path / "new" / "model.keras")
    assert same(loaded, model) and loaded.name == model.name and not getattr(loaded, "optimizer", None)
    with pytest.raises(MixNetError, match="exists already"):
        save_model(model, tmp_path / "new" / "model.keras", overwrite=False)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["model.keras"]


def test_what_is_no_keras_model_is_one_line(tmp_path):
    (tmp_path / "made.tflite").write_bytes(b"TFL3")
    small().save(tmp_path / "model.keras")
    content = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "half.keras").write_bytes(content[: len(content) // 2])
    for name, message in {
        "gone.keras": "no such file",
        "made.tflite": "is converted already",
        "half.keras": "not a readable .keras model",
    }.items():
        with pytest.raises(WeightsError, match=message) as caught:
            load_model(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_weights_keep_their_names_in_files(trained_nano, tmp_path):
    """A block's list of layers, which summaries read, is no second way to them: files of before stay readable."""

    def names(path):
        with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            paths = []
            file.visit(paths.append)
        return sorted(name for name in paths if not name.startswith("_"))

    save_model(load_model(trained_nano), tmp_path / "again.keras")
    assert names(tmp_path / "again.keras") == names(trained_nano)
    assert "layers/mix_depth_block/project_conv/convs/conv2d/vars/0" in names(trained_nano)
