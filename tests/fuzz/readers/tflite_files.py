"""``.tflite`` files: damaged as bytes, damaged table by table, and valid ones that no converter of ours would write."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.litert.packing import Buffer
from tests.fuzz.cases import Case
from tests.fuzz.mutations import damaged

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 16, 17, 100, 127, 128, 255, 256, 1000, 2**15, 2**20, 2**24, 2**31 - 1)
_TEXTS = (
    *(
        b"",
        b"\xff\xfe",
        b"\x1b[31mred\x1b[0m",
        b"two\nlines",
        b"a\rb",
        b"| a | b |",
        b"<b>",
        b"[x](y)",
        "\u202e".encode(),
    ),
    *("\U0001f600".encode(), b"\x00", b"x" * 5000, b"image", b"{}", b"%s%n", b"../../x", b"\xed\xa0\x80"),
)


@functools.cache
def _files(*patterns: str) -> tuple[bytes, ...]:
    """Return the contents of the fixtures that match."""
    return tuple(path.read_bytes() for pattern in patterns for path in sorted(FIXTURES.glob(pattern)))


def _spots(value: Any, spots: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return (container, key) of every field of a parsed file that holds something; the content of buffers is one."""
    if isinstance(value, list):
        entries: Any = list(enumerate(value))
    elif hasattr(value, "__dict__"):
        entries = list(vars(value).items())
    else:
        return spots
    for key, entry in entries:
        if entry is not None:
            spots.append((value, key))
            if not isinstance(value, schema.BufferT):
                _spots(entry, spots)
    return spots


def _get(container: Any, key: Any) -> Any:
    return container[key] if isinstance(container, list) else getattr(container, key)


def _set(container: Any, key: Any, value: Any) -> None:
    if isinstance(container, list):
        container[key] = value
    else:
        setattr(container, key, value)


def _array(random: Random, array: np.ndarray) -> np.ndarray:
    """Return a vector with a number changed, left out or added."""
    array, action = array.copy(), random.randrange(4)
    if action == 0 or not array.size:
        return np.append(array, array.dtype.type(random.choice((0, 1, 3))))
    if action == 1:
        return np.delete(array, random.randrange(array.size))
    if array.dtype.kind == "f":
        value: Any = random.choice((0.0, -1.0, np.nan, np.inf, 1e-45, 1e38, 1.0))
    else:
        limits = np.iinfo(array.dtype)
        value = max(limits.min, min(limits.max, random.choice((*_NUMBERS, -1, -2, -(2**31)))))
    array[random.randrange(array.size)] = value
    return array


def _change(random: Random, model: Any) -> None:
    """Change one field of one table."""
    spots = _spots(model, [])
    container, key = random.choice(spots)
    value, action = _get(container, key), random.random()
    if isinstance(value, np.ndarray):
        changed: Any = _array(random, value)
    elif isinstance(value, bytes):
        changed = random.choice(_TEXTS) if not isinstance(container, schema.BufferT) else damaged(random, value)
    elif isinstance(value, bool):
        changed = not value
    elif isinstance(value, int):
        changed = random.choice((value + 1, value - 1, -1, *_NUMBERS))
    elif isinstance(value, float):
        changed = random.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
    elif isinstance(value, list) and value:
        changed = list(value)
        at = random.randrange(len(changed))
        if action < 0.4:
            del changed[at]
        elif action < 0.7:
            changed.insert(random.randrange(len(changed)), copy.copy(changed[at]))
        else:
            random.shuffle(changed)
    else:  # a table of the same kind from elsewhere, or none
        alike = [_get(*spot) for spot in spots if type(_get(*spot)) is type(value)]
        changed = copy.copy(random.choice(alike)) if action < 0.7 else None
    _set(container, key, changed)


def _pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _parse(content: bytes) -> Any:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.buffers = [Buffer.of(buffer, content) for buffer in model.buffers]
    return model


def _mutant(random: Random, content: bytes) -> bytes:
    """Return a file damaged as bytes, or a whole one with damaged tables."""
    if random.random() < 0.35:
        return damaged(random, content)
    for _ in range(20):
        model = _parse(content)
        try:
            for _ in range(random.choice((1, 1, 1, 2, 4))):
                _change(random, model)
            return _pack(model)
        except Exception:  # a value that the schema's writer does not take
            continue
    return content


def _written(random: Random, folder: Path, *patterns: str) -> str:
    path = folder / "model.tflite"
    path.write_bytes(_mutant(random, random.choice(_files(*patterns))))
    return str(path)


def inspect(random: Random, folder: Path) -> Case:
    """List the ops of a damaged file."""
    path = _written(random, folder, "tiny/*.tflite", "ops/*.tflite", "odd/*.tflite")
    return Case(["inspect", path, *(["--json"] * random.randrange(2))])


def benchmark(random: Random, folder: Path) -> Case:
    """Time a damaged file."""
    return Case(["benchmark", _written(random, folder, "tiny/*.tflite", "ops/*.tflite"), "--rounds", "1"])


def _images(folder: Path) -> str:
    """Write two classes of images of the size of the tiny networks."""
    rng = np.random.default_rng(0)
    arrays = {f"x_{split}": rng.integers(0, 256, (4, 4, 4, 3), np.uint8) for split in ("train", "test")}
    arrays |= {f"y_{split}": np.array([0, 1, 0, 1]) for split in ("train", "test")}
    np.savez(folder / "images.npz", **arrays)
    return str(folder / "images.npz")


def evaluate(random: Random, folder: Path) -> Case:
    """Measure a damaged file."""
    return Case(["evaluate", _written(random, folder, "tiny/classifier.tflite"), "--data", _images(folder)])


def compare(random: Random, folder: Path) -> Case:
    """Compare a damaged file with a whole one."""
    paths = [_written(random, folder, "tiny/classifier.tflite"), str(FIXTURES / "tiny/classifier.tflite")]
    random.shuffle(paths)
    return Case(["compare", *paths, "--data", _images(folder)])


def export(random: Random, folder: Path) -> Case:
    """Quantize a damaged file, or write it as it is."""
    path, output = _written(random, folder, "tiny/*.tflite"), str(folder / "out.tflite")
    recipe = random.choice(("float32", "int8", "int8", "int8_uint8_io", "weight_int8"))
    arguments = ["export", path, "--recipe", recipe, "--output", output]
    return Case([*arguments, "--calibration", _images(folder), "--images", "2"])


READERS: dict[str, Callable[[Random, Path], Case]] = {
    "tflite-inspect": inspect,
    "tflite-benchmark": benchmark,
    "tflite-evaluate": evaluate,
    "tflite-compare": compare,
    "tflite-export": export,
}
