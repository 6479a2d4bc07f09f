"""Weights and models from elsewhere: damaged containers, and whole ones with hostile content."""

import functools
import importlib.util
import io
import json
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mixnet_tf.progress.loading import load_tensorflow
from tests.fuzz.cases import Case
from tests.fuzz.mutations import damaged, damaged_zip

ROOT = Path(__file__).resolve().parents[3]
NANO = ROOT / "tests" / "fixtures" / "nano.keras"
TINY = str(ROOT / "tests" / "tiny.yaml")
_NUMBERS = (0, 1, -1, 2, 3, 7, 100, 10**5, 10**9, 2**31, 2**62, 2**63, 2**64, 10**30, 0.5, None, True, "1", [], [1], {})
_NAMES = ("", "x", "a\nb", "\x1b[31mred", "conv_stem.weight", "../x", "x" * 5000, "\u202e", "0", "classifier.9.bias")
_CLASSES = (
    ("os", "system"), ("keras.layers", "Lambda"), ("keras.layers", "Dense"), ("keras", "utils.get_file"),
    ("keras.datasets.mnist", "load_data"), ("keras.utils", "get_file"), ("builtins", "eval"), (None, "__lambda__"),
    ("keras.layers", "TFSMLayer"), ("keras.layers", "Normalization"), ("keras.src.backend", "Variable"),
    ("keras.layers", "LSTM"), ("keras.layers", "UpSampling2D"), ("keras.models", "Sequential"), (None, "__numpy__"),
)  # fmt: skip


@functools.cache
def _tensors() -> dict[str, np.ndarray]:
    """Return weights of the tiny network by timm's names, with values that tell every position apart."""
    load_tensorflow()
    import keras

    from mixnet_tf.model import create_model
    from mixnet_tf.weights.loading import export_state_dict

    keras.utils.set_random_seed(0)
    tensors = export_state_dict(create_model(TINY, classes=4), "timm")
    return {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}


@functools.cache
def _keras_files() -> dict[str, bytes]:
    """Return the tiny network as a ``.keras`` and a ``.weights.h5`` file."""
    load_tensorflow()
    import keras

    from mixnet_tf.model import create_model

    keras.utils.set_random_seed(0)
    model = create_model(TINY, classes=10, input_shape=(16, 16, 3))
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/a.keras")
        model.save_weights(f"{folder}/a.weights.h5")
        return {suffix: Path(folder, f"a{suffix}").read_bytes() for suffix in (".keras", ".weights.h5")}


def _import(path: Path, content: bytes, wrong: Callable[[str], str | None] | None = None) -> Case:
    path.write_bytes(content)
    output = path.with_name("made.keras")
    arguments = ["import-weights", str(path), "--config", TINY, "--output", str(output)]
    return Case(arguments, wrong) if wrong else Case(arguments)


def _same_bytes(folder: Path, content: bytes) -> Callable[[str], str | None]:
    """Return a check: every kernel and bias that was imported lies, byte for byte, somewhere in the (plain) file."""

    def wrong(output: str) -> str | None:
        import h5py

        with zipfile.ZipFile(folder / "made.keras") as archive:
            file = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
        strangers = []

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                array = item[()]
                orders = {4: (3, 2, 0, 1), 2: (1, 0)}  # of kernels there
                layouts = [array.transpose(orders[array.ndim])] if array.ndim in orders else [array]
                if array.ndim == 4:
                    layouts.append(array.transpose(2, 3, 0, 1))
                is_scale = "bn/" in name and name.endswith("/0")  # gamma is rescaled
                if not is_scale and not any(layout.tobytes() in content for layout in layouts):
                    strangers.append(name)

        file.visititems(visit)
        return f"{strangers[0]} is not what the file holds" if strangers else None

    return wrong


def _safetensors(tensors: dict[str, np.ndarray], change: Callable[[dict], None] | None = None) -> bytes:
    header: dict[str, Any] = {}
    data = b""
    for name, value in tensors.items():
        end = len(data) + value.nbytes
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(data), end]}
        data += value.tobytes()
    if change is not None:
        change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


_DTYPES = ("F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "BOOL", "F4", "", 7, None)
_METADATA = ({"a": "b"}, {"a": 1}, {"a\nb": "\x1b[31mred"}, [], "x")


def _add_strays(random: Random, header: dict, name: str) -> None:
    for stray in range(random.choice((1, 100, 30_000))):
        header[f"stray.{stray}"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def _reshape(random: Random, header: dict, name: str) -> None:
    shape = header[name]["shape"]
    header[name]["shape"] = random.choice((shape[::-1], [*shape, 1], [0, *shape]))


_HEADER_CHANGES: tuple[Callable[[Random, dict, str], Any], ...] = (
    lambda random, header, name: header[name].update(shape=random.choices(_NUMBERS, k=random.randrange(6))),
    lambda random, header, name: header[name].update(data_offsets=random.choices(_NUMBERS, k=2)),
    lambda random, header, name: header[name].update(dtype=random.choice(_DTYPES)),
    lambda random, header, name: header.update({random.choice(_NAMES): header.pop(name)}),
    lambda random, header, name: header.update({random.choice(_NAMES): random.choice((header[name], {}, [], None, 1))}),
    lambda random, header, name: header.update(__metadata__=random.choice(_METADATA)),
    lambda random, header, name: header[name].update(data_offsets=random.choice(list(header.values()))["data_offsets"]),
    _add_strays,
    _reshape,
)


def _change_header(random: Random) -> Callable[[dict], None]:
    """Return a change of a .safetensors header that keeps it JSON."""
    return lambda header: random.choice(_HEADER_CHANGES)(random, header, random.choice(list(header)))


def _wide(random: Random) -> dict[str, np.ndarray]:
    """Return tensors with a classifier that is not as wide as it says."""
    classes = random.choice((0, 1, 5, 100_000, 1_000_000))
    kernel = random.choice(((classes, 1), (0, 1536), (classes, 0), (4, 1536)))
    return _tensors() | {"classifier.bias": np.zeros(classes, "f4"), "classifier.weight": np.zeros(kernel, "f4")}


def safetensors(random: Random, folder: Path) -> Case:
    """Import damaged timm weights."""
    action = random.random()
    if action < 0.5:
        content = damaged(random, _safetensors(_tensors()))
    elif action < 0.95:
        content = _safetensors(_tensors(), _change_header(random))
    elif action < 0.98:
        content = _safetensors(_wide(random))
    else:
        content = struct.pack("<Q", random.choice((2**63, 2**64 - 1, 2**31, 10**8, 2**22))) + b'{"a":' * random.choice(
            (1, 10**6)
        )
    return _import(folder / "a.safetensors", content, _same_bytes(folder, content))


def _npy(value: np.ndarray, header: str) -> bytes:
    text = header.encode("latin-1", "replace") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) % 2**16) + text + value.tobytes()


def npz(random: Random, folder: Path) -> Case:
    """Import damaged arrays."""
    tensors, written = dict(_tensors()), io.BytesIO()
    action = random.random()
    if action < 0.1:
        tensors = _wide(random)
    elif action < 0.2:
        name = random.choice(list(tensors))
        kind = random.choice(("<f2", "<f8", ">f4", "<i4", "S4", "<U2", "M8[s]", "?", "<c8", "i4,f4"))
        tensors[name] = np.zeros(tensors[name].shape, kind)
    elif action < 0.3:
        tensors[random.choice(_NAMES[1:])] = np.zeros(random.choice((0, 1, 10**6)), "f4")
    save = random.choice((np.savez, np.savez_compressed))
    save(written, **tensors)
    content = written.getvalue()
    if action > 0.5:
        content = damaged_zip(random, content)
    elif action > 0.3:
        content = _lying_npz(random, tensors)
    return _import(folder / "a.npz", content)


def _lying_npz(random: Random, tensors: dict[str, np.ndarray]) -> bytes:
    written = io.BytesIO()
    liar = random.choice(list(tensors))
    with zipfile.ZipFile(written, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, value in tensors.items():
            descr, order, shape = "<f4", False, str(value.shape)
            if name == liar:
                descr = random.choice(
                    ("<f4", "<f8", "|O", "<f2", "[('a', '<f4')]", "x", "<V99999999999", "S2000000000")
                )
                order = random.choice((False, True, 1, None, "x"))
                shape = random.choice(
                    (shape, "(-1,)", f"({2**62}, 4)", "(10**9,)", "()", "(True, 4)", "'x'", "(" * 300)
                )
            header = f"{{'descr': '{descr}', 'fortran_order': {order!r}, 'shape': {shape}, }}"
            archive.writestr(f"{name}.npy", _npy(value, header))
            if name == liar and random.random() < 0.1:
                warnings.simplefilter("ignore")  # about a name that is there twice
                archive.writestr(random.choice((f"{name}.npy", f"{name}.npy.npy", "readme", "/a.npy")), b"x" * 100)
    return written.getvalue()


def _repacked(random: Random, content: bytes, change: Callable[[dict], bytes | None] | None = None) -> bytes:
    """Return a .keras archive with a changed configuration, or with changed weights."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    if change is None:
        members["model.weights.h5"] = _hostile_h5(random, members["model.weights.h5"])
    else:
        config = json.loads(members["config.json"])
        members["config.json"] = change(config) or json.dumps(config).encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return written.getvalue()


def _spots(value: Any) -> list[tuple[Any, Any]]:
    spots, waiting = [], [value]
    while waiting:
        container = waiting.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            spots.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return spots


def _replace(random: Random, spots: list, container: Any, key: Any) -> None:
    container[key] = random.choice((float("nan"), float("inf"), "x" * 10_000, "\x1b[31m", "../..", None))


def _rename_class(random: Random, spots: list, container: Any, key: Any) -> None:
    classes = [place[at] for place, at in spots if isinstance(place[at], dict) and "class_name" in place[at]]
    if classes:
        entry = random.choice(classes)
        entry["module"], entry["class_name"] = random.choice(_CLASSES)
        entry["registered_name"] = random.choice((None, entry["class_name"], "mixnet_tf>MixConv2D"))


def _copy_spot(random: Random, spots: list, container: Any, key: Any) -> None:
    source, at = random.choice(spots)
    container[key] = json.loads(json.dumps(source[at]))


def _repeat(random: Random, spots: list, container: Any, key: Any) -> None:
    lists = [place[at] for place, at in spots if isinstance(place[at], list)]
    if lists:
        entries = random.choice(lists)
        entries.extend(entries * random.choice((1, 50)))


def _change_number(random: Random, spots: list, container: Any, key: Any) -> None:
    place, at = random.choice([(c, k) for c, k in spots if type(c[k]) in (int, float)] or spots)
    place[at] = random.choice(_NUMBERS)


def _set_number(random: Random, spots: list, container: Any, key: Any) -> None:
    container[key] = random.choice(_NUMBERS)


def _delete(random: Random, spots: list, container: Any, key: Any) -> None:
    del container[key]


_CONFIG_CHANGES = (_delete, _replace, _rename_class, _copy_spot, _repeat, *[_change_number] * 4, _set_number)


def _change_config(random: Random) -> Callable[[dict], bytes | None]:
    """Return a change of a model's configuration; it returns a text where no JSON library would write it."""
    depth = random.choice((50, 300, 900))
    texts = (
        b"[" * random.choice((500, 10**5, 2**21)),
        b'{"a": ' + b"9" * 10_000 + b"}",
        b'{"class_name": "Dense", "module": "keras.layers", "config": ' * depth + b"{}" + b"}" * depth,
    )

    def change(config: dict) -> bytes | None:
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            spots = _spots(config)
            random.choice(_CONFIG_CHANGES)(random, spots, *random.choice(spots))
        return random.choice(texts) if random.random() < 0.05 else None

    return change


def _hostile_h5(random: Random, content: bytes) -> bytes:
    """Return whole HDF5 with one hostile object, or damaged bytes."""
    if random.random() < 0.6:
        return damaged(random, content)
    import h5py

    written = io.BytesIO(content)
    with h5py.File(written, "r+") as file:
        places: list[str] = []
        file.visit(places.append)
        place = random.choice(places)
        shape = getattr(file[place], "shape", (4,))
        del file[place]
        _CRIMES[random.randrange(len(_CRIMES))](random, file, place, shape)
    return written.getvalue()


def _crime_types(random: Random, file: Any, place: str, shape: tuple[int, ...]) -> None:
    import h5py

    kinds = (
        h5py.ref_dtype,
        h5py.string_dtype(),
        np.dtype("S4"),
        np.dtype("i4,f4"),
        h5py.vlen_dtype("f4"),
        "f8",
        "?",
        ">f4",
    )
    file.create_dataset(place, shape, random.choice(kinds))


def _crime_links(random: Random, file: Any, place: str, shape: tuple[int, ...]) -> None:
    import h5py

    links = (
        h5py.SoftLink("/layers"),
        h5py.SoftLink(place),
        h5py.ExternalLink("/etc/passwd", "/a"),
        file,
        file[random.choice(list(file) or ["/"])],
    )
    file[place] = random.choice(links)


def _crime_sizes(random: Random, file: Any, place: str, shape: tuple[int, ...]) -> None:
    big = random.choice(((10**9,), (2**40,), (2**31, 2**31), (10**7, 3), (0,), (), (1,) * 32))
    in_chunks = big and (len(big) == 2 or random.random() < 0.5)  # in one piece, libhdf5 would not make the large ones
    chunks = {"chunks": True, "compression": "gzip"} if in_chunks else {}
    file.create_dataset(place, big, "f4", **chunks)


def _crime_sources(random: Random, file: Any, place: str, shape: tuple[int, ...]) -> None:
    import h5py

    if random.random() < 0.5:
        file.create_dataset(place, (8,), "f4", external=[("/etc/passwd", 0, 32)])
    else:
        layout = h5py.VirtualLayout((8,), "f4")
        layout[:] = h5py.VirtualSource(random.choice((".", "/etc/passwd")), "layers", (8,))
        file.create_virtual_dataset(place, layout)


def _crime_groups(random: Random, file: Any, place: str, shape: tuple[int, ...]) -> None:
    deep = random.choice((1, 40, 300))
    group = file.create_group(place + "/x" * deep)
    group.attrs["name"] = random.choice((*_NAMES[1:], 7, np.zeros(100), b"\xff\xfe"))


_CRIMES = (_crime_types, _crime_links, _crime_sizes, _crime_sources, _crime_groups)


def keras_weights(random: Random, folder: Path) -> Case:
    """Import the weights of a damaged .keras file."""
    content = _damaged_keras(random)
    return _import(folder / "a.keras", content)


def _damaged_keras(random: Random) -> bytes:
    content, action = _keras_files()[".keras"], random.random()
    if action < 0.3:
        return damaged_zip(random, content)
    return _repacked(random, content, _change_config(random) if action < 0.75 else None)


def keras_model(random: Random, folder: Path) -> Case:
    """Compare a damaged model with a reference on four images."""
    path = folder / "a.keras"
    path.write_bytes(_damaged_keras(random))
    return Case(["evaluate", str(path), "--data", str(_images(folder)), "--split", "test"])


def _images(folder: Path) -> Path:
    path = folder / "images.npz"
    images, labels = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3)).astype(np.uint8), np.arange(40) % 10
    np.savez(path, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    return path


def h5(random: Random, folder: Path) -> Case:
    """Import a damaged .weights.h5 file."""
    return _import(folder / "a.weights.h5", _hostile_h5(random, _keras_files()[".weights.h5"]))


@functools.cache
def _torch_files() -> tuple[bytes, ...]:
    """Return the tiny network as PyTorch saves it, and as it did before 1.6."""
    import torch

    tensors, files = {name: torch.from_numpy(value.copy()) for name, value in _tensors().items()}, []
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        written = io.BytesIO()
        torch.save({"epoch": 1, "state_dict": tensors}, written, **options)
        files.append(written.getvalue())
    return tuple(files)


def pth(random: Random, folder: Path) -> Case:
    """Import a damaged PyTorch file, or a whole one with tensors that are not what they say."""
    import torch

    action = random.random()
    if action < 0.7:
        new, old = _torch_files()
        content = random.choice((damaged(random, old), damaged_zip(random, new), damaged(random, new)))
        return _import(folder / "a.pth", content)
    tensors: dict[Any, Any] = {name: torch.from_numpy(value.copy()) for name, value in _tensors().items()}
    name = random.choice(list(tensors))
    shape = tensors[name].shape
    tensors[random.choice((name, name, *_NAMES, 7, ("a",)))] = random.choice(
        (
            torch.zeros(1).expand(10**12), torch.zeros(4, device="meta"), torch.zeros(shape).to_sparse(), 7, "x", None,
            torch.zeros(shape, dtype=torch.complex64), torch.zeros(shape, dtype=torch.float8_e4m3fn), [[1], [1, 2]],
            torch.zeros(shape, dtype=torch.bfloat16), 7.5,
            torch.zeros(0), torch.nn.Parameter(torch.zeros(shape)), {"a": torch.zeros(1)}, torch.nn.Linear(2, 2), print,
            torch.zeros(1).expand(10**6), torch.zeros(shape).as_strided((2**40,), (0,)), bytearray(10), {1, 2},
        )
    )  # fmt: skip
    written = io.BytesIO()
    torch.save(random.choice((tensors, {"model": tensors}, {"ema": {"state_dict": tensors}}, [tensors])), written)
    return _import(folder / "a.pth", written.getvalue())


READERS: dict[str, Callable[[Random, Path], Case]] = {
    "weights-safetensors": safetensors,
    "weights-npz": npz,
    "weights-keras": keras_weights,
    "weights-h5": h5,
    "model-keras": keras_model,
    **({"weights-pth": pth} if importlib.util.find_spec("torch") else {}),
}
