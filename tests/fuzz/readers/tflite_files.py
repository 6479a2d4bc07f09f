"""``.tflite`` files: damaged as bytes, damaged table by table, and valid ones that no converter of ours would write."""

import copy
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.litert.packing import Buffer
from mixnet_tf.progress.loading import load_tensorflow
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
    """Return the tables of a file, or None where it is too strange."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    try:
        model.buffers = [Buffer.of(buffer, content) for buffer in model.buffers]
    except (TypeError, ValueError):  # no buffers, or elsewhere
        return None
    return model


def _mutant(random: Random, content: bytes) -> bytes:
    """Return a file damaged as bytes, or a whole one with damaged tables."""
    if random.random() < 0.35 or _parse(content) is None:
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
    return Case(["inspect", path, *(["--json"] * random.randrange(2)), *(["--cost"] * random.randrange(2))])


def benchmark(random: Random, folder: Path) -> Case:
    """Time a damaged file."""
    return Case(["benchmark", _written(random, folder, "tiny/*.tflite", "ops/*.tflite"), "--rounds", "1"])


def _images(folder: Path) -> str:
    """Write three classes of images of the size of the tiny networks."""
    load_tensorflow()  # here, outside the time that a command takes
    rng = np.random.default_rng(0)
    arrays = {f"x_{split}": rng.integers(0, 256, (9, 4, 4, 3), np.uint8) for split in ("train", "test")}
    arrays |= {f"y_{split}": np.arange(9) % 3 for split in ("train", "test")}
    np.savez(folder / "images.npz", **arrays)
    return str(folder / "images.npz")


def evaluate(random: Random, folder: Path) -> Case:
    """Measure a damaged file, told what it takes: the files of the fixtures do not say."""
    path = _written(random, folder, "tiny/classifier.tflite")
    return Case(["evaluate", path, "--data", _images(folder), "--input", "signed"])


def compare(random: Random, folder: Path) -> Case:
    """Compare a damaged file with a whole one."""
    paths = [_written(random, folder, "tiny/classifier.tflite"), str(FIXTURES / "tiny/classifier.tflite")]
    random.shuffle(paths)
    return Case(["compare", *paths, "--data", _images(folder), "--input-a", "signed", "--input-b", "signed"])


def export(random: Random, folder: Path) -> Case:
    """Quantize a damaged file, or write it as it is."""
    path, output = _written(random, folder, "tiny/*.tflite"), str(folder / "out.tflite")
    recipe = random.choice(("float32", "int8", "int8", "int8_uint8_io", "weight_int8"))
    arguments = ["export", path, "--recipe", recipe, "--output", output]
    return Case([*arguments, "--data", _images(folder), "--images", "2", "--input", "signed"])


class _Strange:
    """A file put together by hand: every file that it makes runs, or is one that LiteRT refuses."""

    def __init__(self, random: Random):
        self.random = random
        self.graph = schema.SubGraphT(tensors=[], inputs=[], outputs=[], operators=[])
        self.model = schema.ModelT(version=3, operatorCodes=[], subgraphs=[self.graph], buffers=[schema.BufferT()])

    def tensor(
        self, kind: str = "FLOAT32", shape: tuple[int, ...] = (1, 4, 4, 3), data: Any = None, **fields: Any
    ) -> int:
        buffer = 0
        if data is not None:
            buffer = len(self.model.buffers)
            self.model.buffers.append(Buffer(data=bytes(data)))
        name = fields.pop("name", f"tensor{len(self.graph.tensors)}".encode())
        sizes, code = np.array(shape, np.int32), getattr(schema.TensorType, kind)
        self.graph.tensors.append(schema.TensorT(shape=sizes, type=code, buffer=buffer, name=name, **fields))
        return len(self.graph.tensors) - 1

    def op(self, name: str, inputs: list[int], outputs: list[int], options: Any = None, version: int = 1) -> None:
        code = getattr(schema.BuiltinOperator, name)
        codes = schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version)
        self.model.operatorCodes.append(codes)
        operator = schema.OperatorT(opcodeIndex=len(self.model.operatorCodes) - 1, inputs=inputs, outputs=outputs)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self.graph.operators.append(operator)

    def subgraph(self) -> int:
        """Begin another subgraph."""
        self.graph = schema.SubGraphT(tensors=[], inputs=[], outputs=[], operators=[])
        self.model.subgraphs.append(self.graph)
        return len(self.model.subgraphs) - 1

    def ends(self, inputs: list[int], outputs: list[int]) -> None:
        self.graph.inputs, self.graph.outputs = inputs, outputs


def _no_operators(file: _Strange) -> None:
    kind = file.random.choice(("FLOAT32", "STRING", "INT64", "BOOL", "FLOAT16", "RESOURCE", "INT4", "COMPLEX64"))
    tensor = file.tensor(kind, file.random.choice(((), (0,), (1,), (1, 4, 4, 3), (1, 0, 0, 3), (1,) * 9)))
    file.ends([tensor] * file.random.randrange(3), [tensor] * file.random.randrange(3))


def _no_inputs(file: _Strange) -> None:
    tensors = [file.tensor(data=np.ones(48, np.float32).tobytes()), file.tensor()]
    file.op("RELU", tensors[:1], tensors[1:])
    file.ends([], tensors[1:])


def _integers(file: _Strange) -> None:
    kind = file.random.choice(("INT64", "INT32", "INT16", "UINT8", "BOOL", "UINT32", "FLOAT64", "FLOAT16", "INT4"))
    tensors = [file.tensor(kind), file.tensor()]
    codes = [getattr(schema.TensorType, name) for name in (kind, "FLOAT32")]
    file.op("CAST", tensors[:1], tensors[1:], schema.CastOptionsT(*codes) if file.random.random() < 0.7 else None)
    file.ends(tensors[:1], tensors[1:])


def _texts(file: _Strange) -> None:
    text = b"\x01\0\0\0\x0c\0\0\0" + file.random.choice((b"\x0f", b"\xff", b"\0")) + b"\0\0\0abc"
    tensors = [file.tensor("STRING", (1,), text), file.tensor("STRING", (1, 1))]
    shape = file.tensor("INT32", (2,), np.ones(2, np.int32).tobytes())
    file.op("RESHAPE", [tensors[0], shape], tensors[1:])
    file.ends([], tensors[1:])


def _alike(file: _Strange) -> None:
    name = file.random.choice((*_TEXTS, None))
    tensors = [file.tensor(name=name) for _ in range(4)]
    for one, two in itertools.pairwise(tensors):
        file.op(file.random.choice(("RELU", "LOGISTIC", "TANH", "FLOOR")), [one], [two])
    file.ends(tensors[:1], tensors[-1:])


def _long(file: _Strange) -> None:
    tensors = [file.tensor() for _ in range(file.random.choice((10, 100, 300)))]
    for one, two in itertools.pairwise(tensors):
        file.op("RELU", [one], [two])
    file.ends(tensors[:1], tensors[-1:])


def _reads_itself(file: _Strange) -> None:
    tensors = [file.tensor(), file.tensor()]
    file.op("ADD", [tensors[0], tensors[1]], [tensors[1]], schema.AddOptionsT())
    file.ends(tensors[:1], tensors[1:])


def _loop(file: _Strange) -> None:
    """Count to a number, or, in a file of subgraphs that call one another, for ever deeper."""
    tensors = [file.tensor("INT32", ()), file.tensor("INT32", ())]
    deep = file.random.random() < 0.3
    options = schema.WhileOptionsT(*((0, 0) if deep else (1, 2)))
    file.op("WHILE", tensors[:1], tensors[1:], options)
    file.ends(tensors[:1], tensors[1:])
    for name, kind, number in (("LESS", "BOOL", file.random.choice((0, 1, 100))), ("ADD", "INT32", 1)):
        file.subgraph()
        inner = [file.tensor("INT32", ()), file.tensor("INT32", (), np.int32(number).tobytes()), file.tensor(kind, ())]
        file.op(name, inner[:2], inner[2:])
        file.ends(inner[:1], inner[2:])


def _variable(file: _Strange) -> None:
    handle, image, output = file.tensor("RESOURCE", ()), file.tensor(), file.tensor()
    names = file.random.choice((b"a", b"", b"\xff", None))
    if file.random.random() < 0.8:
        file.op("VAR_HANDLE", [], [handle], schema.VarHandleOptionsT(container=names, sharedName=names))
    if file.random.random() < 0.7:
        file.op("ASSIGN_VARIABLE", [handle, image], [])
    file.op("READ_VARIABLE", [handle], [output])
    file.ends([image], [output])


def _sparse(file: _Strange) -> None:
    """A fully connected layer whose weights are a sparse matrix, 4 x 4, more or less."""
    some = [file.random.choice((0, 1, 2, 4, 5, 100)) for _ in range(3)]
    dense = schema.DimensionMetadataT(format=0, denseSize=file.random.choice((4, 4, 4, *some)))
    segments = schema.Int32VectorT(values=[0, 1, 2, 3, file.random.choice((4, 4, 4, *some))])
    places = schema.Int32VectorT(values=[0, 1, 2, file.random.choice((3, 3, 3, *some))])
    rows = schema.DimensionMetadataT(
        format=1, arraySegmentsType=1, arraySegments=segments, arrayIndicesType=1, arrayIndices=places
    )
    order = file.random.choice(([0, 1], [0, 1], [1, 0], [0], [0, 7], []))
    sparsity = schema.SparsityParametersT(traversalOrder=order, blockMap=[], dimMetadata=[dense, rows])
    x, y = file.tensor(shape=(1, 4)), file.tensor(shape=(1, 4))
    weights = file.tensor(shape=(4, 4), data=np.ones(4, np.float32).tobytes(), sparsity=sparsity)
    file.op("FULLY_CONNECTED", [x, weights, -1], [y], schema.FullyConnectedOptionsT())
    file.ends([x], [y])


def _nothing(file: _Strange) -> None:
    field = file.random.choice(("subgraphs", "buffers", "operatorCodes", "tensors", "operators", "inputs", "outputs"))
    _no_inputs(file)
    owner = file.model if hasattr(file.model, field) else file.graph
    setattr(owner, field, file.random.choice((None, [])))


def _large(file: _Strange) -> None:
    """Sizes that a constant says, and not a shape: resized images, and values repeated."""
    size = file.random.choice((0, -1, 2**31 - 1, 30000, 500, 100))
    sizes = file.tensor("INT32", (2,), np.array([size, size], np.int32).tobytes())
    image, output = file.tensor(), file.tensor()
    file.op("RESIZE_BILINEAR", [image, sizes], [output], schema.ResizeBilinearOptionsT())
    file.ends([image], [output])


_STRANGE = (
    *(_no_operators, _no_inputs, _integers, _texts, _alike, _long, _reads_itself, _loop, _variable, _sparse),
    *(_nothing, _large),
)


def _beside(content: bytes, random: Random) -> bytes:
    """Return a file with its constants behind the flatbuffer, as files above 2 GB have them."""
    model = _parse(content)
    offsets, tail = [], b""
    for buffer in model.buffers:
        if buffer.data:
            offsets.append((len(tail), len(buffer.data)))
            tail += buffer.data + bytes(-len(buffer.data) % 16)
    kept = [buffer.data for buffer in model.buffers]
    model.buffers = [schema.BufferT(offset=2**20, size=1) if data else schema.BufferT() for data in kept]
    start = len(_pack(model)) + -len(_pack(model)) % 16
    for buffer, (at, size) in zip([buffer for buffer in model.buffers if buffer.offset], offsets, strict=True):
        buffer.offset, buffer.size = start + at, size
        if random.random() < 0.03:
            buffer.offset = random.choice((0, 1, 2, 2**31, 2**63, 2**64 - 1, start + len(tail)))
    head = _pack(model)
    return head + bytes(start - len(head)) + tail


def strange(random: Random, folder: Path) -> Case:
    """Give a file that no converter of ours writes to one of the commands."""
    images, choice = _images(folder), random.randrange(len(_STRANGE) + 2)
    if choice < len(_STRANGE):
        file = _Strange(random)
        _STRANGE[choice](file)
        content = _pack(file.model)
    elif choice == len(_STRANGE):
        content = _beside(random.choice(_files("tiny/*.tflite", "ops/*.tflite")), random)
    else:
        content = random.choice(_files("odd/*.tflite", "ops/*.tflite"))
    path = folder / "strange.tflite"
    path.write_bytes(_mutant(random, content) if random.random() < 0.2 else content)
    output = ["--output", str(folder / "out.tflite")]
    commands: tuple[list[str], ...] = (
        ["inspect", str(path)],
        ["benchmark", str(path), "--rounds", "1"],
        ["evaluate", str(path), "--data", images],
        [
            "export",
            str(path),
            "--recipe",
            "int8",
            *output,
            "--data",
            images,
            "--images",
            "2",
        ],
        ["export", str(path), "--recipe", "weight_int8", *output],
    )
    return Case(random.choice(commands))


READERS: dict[str, Callable[[Random, Path], Case]] = {
    "tflite-inspect": inspect,
    "tflite-benchmark": benchmark,
    "tflite-evaluate": evaluate,
    "tflite-compare": compare,
    "tflite-export": export,
    "tflite-strange": strange,
}
