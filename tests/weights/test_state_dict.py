"""Every container of weights: what it holds comes out, and a damaged or hostile one is one clear error."""

import json
import struct
import sys
import zipfile
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from small import SMALL

from mixnet_tf.errors import WeightsError
from mixnet_tf.model import create_model
from mixnet_tf.weights import h5_files, keras_files
from mixnet_tf.weights import state_dict as statedict
from mixnet_tf.weights.state_dict import open_state_dict

STATE = {
    "stem/conv/kernel": np.random.default_rng(0).standard_normal((3, 3, 3, 8)).astype(np.float32),
    "stem/bn/gamma": np.arange(8, dtype=np.float32),
}
SUFFIXES = [".safetensors", ".npz", ".keras", ".weights.h5"]


def everything(source) -> dict[str, np.ndarray]:
    with open_state_dict(source) as state:
        arrays = {name: state.read(name) for name in state.shapes}
        assert {name: array.shape for name, array in arrays.items()} == dict(state.shapes)
    return arrays


def error(source) -> str:
    with pytest.raises(WeightsError) as caught:
        everything(source)
    message = str(caught.value)
    assert str(source) in message and "\n" not in message and len(message) < 500
    return message


def equal(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """One good file of every suffix."""
    folder = tmp_path_factory.mktemp("files")
    model = create_model(SMALL, classes=3)
    save_file(STATE, folder / "weights.safetensors")
    np.savez(folder / "weights.npz", **STATE)
    model.save(folder / "weights.keras")
    model.save_weights(folder / "weights.weights.h5")
    return {suffix: folder / f"weights{suffix}" for suffix in SUFFIXES}


def test_containers_of_arrays_give_back_what_went_in(files, tmp_path):
    for path in (files[".safetensors"], str(files[".npz"])):
        assert equal(everything(path), STATE)
    np.savez_compressed(tmp_path / "small.npz", **STATE)
    assert equal(everything(tmp_path / "small.npz"), STATE)


def test_keras_files_are_named_by_layer_and_position(tmp_path):
    model = create_model(SMALL, classes=3)
    positions = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3}
    expected = {}
    for seed, variable in enumerate(model.variables):
        variable.assign(np.random.default_rng(seed).uniform(size=variable.shape))
        layers, _, name = variable.path.rpartition("/")
        expected[f"{layers}/{positions[name]}"] = np.asarray(variable)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    assert equal(everything(tmp_path / "model.keras"), expected)
    assert equal(everything(tmp_path / "model.weights.h5"), expected)


def write_safetensors(path: Path, header: dict | bytes, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_half_precision_is_read_in_its_own_type(tmp_path):
    values = np.linspace(-2, 2, 6, dtype=np.float32)
    save_file({"a": values.astype(np.float16)}, tmp_path / "half.safetensors")
    assert everything(tmp_path / "half.safetensors")["a"].dtype == np.float16
    entry = {"a": {"dtype": "BF16", "shape": [6], "data_offsets": [0, 12]}}
    path = write_safetensors(tmp_path / "brain.safetensors", entry, values.astype(ml_dtypes.bfloat16).tobytes())
    np.testing.assert_array_equal(
        everything(path)["a"].astype(np.float32), values.astype(ml_dtypes.bfloat16).astype(np.float32)
    )


@pytest.mark.parametrize("dtype", ["I64", "BOOL", "F8_E4M3"])
def test_other_types_are_refused(tmp_path, dtype):
    size = 8 if dtype == "I64" else 1
    entry = {"a": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * size]}}
    assert "tensor 'a'" in error(write_safetensors(tmp_path / "a.safetensors", entry, bytes(2 * size)))


LIES = {
    "past the end": ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1600]}}, 16),
    "shorter than the shape": ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}, 16),
    "backwards": ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}, 16),
    "overlapping": ({n: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in "ab"}, 16),
    "a hole": ({n: {"dtype": "F32", "shape": [2], "data_offsets": [o, o + 8]} for n, o in (("a", 0), ("b", 16))}, 24),
    "data left over": ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, 32),
    "overflowing": ({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}}, 16),
    "no mapping": (b"[1, 2]", 16),
    "no JSON": (b"{" * 1000, 16),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_safetensors_header_that_lies(tmp_path, lie):
    header, size = LIES[lie]
    assert "not a readable .safetensors file" in error(
        write_safetensors(tmp_path / "a.safetensors", header, bytes(size))
    )


def test_a_safetensors_header_longer_than_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    assert "not a readable .safetensors file" in error(path)


def test_a_safetensors_header_of_many_megabytes(tmp_path):
    path = write_safetensors(tmp_path / "a.safetensors", b'{"a": 1'.ljust(2**22 + 1), b"")
    assert "a header of 4194305 bytes, expected at most 4194304" in error(path)


def test_names_and_reasons_are_printable(tmp_path):
    name = "a\n\x1b[31m\u202e"
    entry = {name: {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}
    folder = tmp_path / "\x1b[2J"
    folder.mkdir()
    path = write_safetensors(folder / "a.safetensors", entry, bytes(8))
    for content in (path.read_bytes(), path.read_bytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(WeightsError) as caught:
            everything(path)
        assert str(caught.value).isprintable() and r"\x1b[2J" in str(caught.value)


def test_twenty_megabytes_of_random_bytes(tmp_path):
    noise = tmp_path / "noise"
    noise.write_bytes(np.random.default_rng(0).bytes(20_000_000))
    for suffix in SUFFIXES:
        noise = noise.rename(tmp_path / f"noise{suffix}")
        assert "not a readable" in error(noise)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_and_truncated_files(files, tmp_path, suffix):
    whole = files[suffix].read_bytes()
    for size in (0, 1, 8, 100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(whole[:size])
        assert "not a readable" in error(path)


def test_no_file_a_folder_and_an_unknown_kind(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    assert "no such file" in error(tmp_path / "gone.safetensors")
    assert "is a folder" in error(tmp_path / "folder.npz")
    assert "expected a file ending in .safetensors, .npz, .pth" in error(tmp_path / "weights.bin")
    with pytest.raises(WeightsError, match="found int, expected a file or a mapping"):
        everything(3)


def test_pickles_in_an_npz_are_never_loaded(tmp_path):
    np.savez(tmp_path / "pickle.npz", a=np.array([{"b": 1}], dtype=object))
    assert "pickled Python objects, which are never loaded" in error(tmp_path / "pickle.npz")


def test_an_npz_that_lies_about_its_size_is_not_believed(tmp_path):
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16))
    assert "'a.npy' holds 16 bytes, but its header promises 4000.0 GB" in error(tmp_path / "lie.npz")


def test_an_npz_with_more_than_a_mixnet_holds(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(10**6, np.float32))
    monkeypatch.setattr(statedict, "MAX_BYTES", 10**6)
    assert "its arrays have 4000000 bytes, expected at most 1000000 bytes" in error(tmp_path / "bomb.npz")


def test_an_npz_with_a_header_of_gigabytes(tmp_path):
    with zipfile.ZipFile(tmp_path / "long.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 3 * 10**8) + bytes(3 * 10**6))
    assert "not a readable .npz file" in error(tmp_path / "long.npz")


def test_an_npz_with_a_stranger(tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
        archive.writestr("readme.txt", "not an array")
    assert everything(tmp_path / "odd.npz") == {}


def test_a_keras_file_without_weights_or_too_large(files, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "none.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "not a readable .keras file" in error(tmp_path / "none.keras")
    monkeypatch.setattr(h5_files, "MAX_BYTES", 1000)
    assert "too many for a MixNet" in error(files[".weights.h5"])
    monkeypatch.setitem(keras_files._MOST_BYTES, "model.weights.h5", 1000)
    assert "too many for a MixNet" in error(files[".keras"])


def test_an_h5_file_that_is_not_keras_or_reads_other_files(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(32))
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["data"] = np.zeros(3)
    assert "not a readable .h5 file" in error(tmp_path / "foreign.h5")
    with h5py.File(tmp_path / "hostile.h5", "w") as file:
        group = file.create_group("layers/conv_batch_norm/vars")
        group.attrs["name"] = "stem"
        group.create_dataset("0", (8,), "f4", external=[(str(secret), 0, 32)])
    assert "refers to another file" in error(tmp_path / "hostile.h5")


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_pytorch_files_without_pytorch(tmp_path, monkeypatch, suffix):
    monkeypatch.setitem(sys.modules, "torch", None)  # what an import of something not installed does
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"anything")
    assert f"reading {suffix} needs PyTorch (pip install torch); or save it as .safetensors" in error(path)


def test_pytorch_files(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(value) for name, value in STATE.items()}
    tensors["brain"] = torch.arange(4, dtype=torch.bfloat16)
    for name, content in {"plain": tensors, "wrapped": {"epoch": 1, "state_dict": tensors}}.items():
        torch.save(content, tmp_path / f"{name}.pth")
        assert equal(everything(tmp_path / f"{name}.pth"), STATE | {"brain": np.arange(4, dtype=np.float32)})
    assert equal(everything(tensors), STATE | {"brain": np.arange(4, dtype=np.float32)})
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")  # would run code from the file
    assert "not a readable .pt file" in error(tmp_path / "module.pt")
    huge = torch.zeros(1).expand(10**12)
    torch.save({"a": huge}, tmp_path / "huge.pth")
    assert "tensor 'a' claims more numbers than the file holds" in error(tmp_path / "huge.pth")
    torch.save({"a": torch.zeros(4, device="meta")}, tmp_path / "meta.pth")
    assert "tensor 'a' claims more" in error(tmp_path / "meta.pth")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    assert "unpacks to 1000000 bytes, and PyTorch does not compress" in error(tmp_path / "bomb.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds a list, expected a state dict" in error(tmp_path / "list.pth")
    for data in (b"", np.random.default_rng(0).bytes(10_000), (tmp_path / "plain.pth").read_bytes()[:-300]):
        (tmp_path / "noise.pth").write_bytes(data)
        assert "not a readable .pth file" in error(tmp_path / "noise.pth")
