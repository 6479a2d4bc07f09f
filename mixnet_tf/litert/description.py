"""What a ``.tflite`` says of itself, as Android's and MediaPipe's readers expect it: TensorFlow Lite's metadata.

The schema is metadata_schema.fbs of tensorflow/tflite-support, version 1.0: a flatbuffer ``M001`` in an entry of the
file's metadata, which names a file with the labels that is attached to the ``.tflite``. Slots below are its fields.
"""

import dataclasses
import itertools
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers.table import Table

from mixnet_tf.data.input_format import limits
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.metadata import crop_fraction, entry, set_crop_fraction
from mixnet_tf.litert.scores import scores_of

_ENTRY, _IDENTIFIER, _LABELS = "TFLITE_METADATA", b"M001", "labels.txt"
_NAME, _TEXT, _VERSION, _GRAPHS, _AUTHOR, _LICENSE, _MIN_PARSER = 0, 1, 2, 3, 4, 5, 7
_INPUTS, _OUTPUTS = 2, 3  # of a subgraph; its name and those of tensors and files are _NAME and _TEXT, too
_CONTENT, _PROCESS, _STATS, _FILES = 3, 4, 5, 6  # of a tensor
_MOST = 100  # items of a vector, against tables that name each other again and again
_IMAGE, _FEATURES, _RGB, _NORMALIZATION, _AXIS_LABELS = (np.uint8(n) for n in (2, 1, 1, 1, 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What people want to know of a file, or None.

    Attributes:
        name: of the model; for an export, None leaves it its own.
        description: what it is for.
        version: of the model.
        author: who made it.
        license: under which it may be used.
    """

    name: str | None = None
    description: str | None = None
    version: str | None = None
    author: str | None = None
    license: str | None = None

    def over(self, earlier: "About") -> "About":
        """Return this, and what an earlier one says where this says nothing."""
        said = {key: text for key, text in dataclasses.asdict(self).items() if text is not None}
        return dataclasses.replace(earlier, **said)


def describe(graph: FlatGraph, about: About, labels: Sequence[str] | None, crop: float | None = None) -> None:
    """Write into a graph what it is, what it takes for an image, and its labels.

    Args:
        graph: changed in place.
        about: what it is.
        labels: one for each output of a classifier, or None.
        crop: the part of a resized picture that it wants to see; None leaves what is recorded.
    """
    if crop is not None:
        set_crop_fraction(graph.model, crop)
    texts = {_NAME: about.name or "", _TEXT: about.description, _VERSION: about.version}
    texts |= {_AUTHOR: about.author, _LICENSE: about.license, _MIN_PARSER: "1.0.0"}
    subgraph = {
        _INPUTS: [_input(graph, index) for index in graph.inputs],
        _OUTPUTS: [_output(graph, index, labels is not None) for index in graph.outputs],
    }
    known = {slot: text for slot, text in texts.items() if text is not None}
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, {**known, _GRAPHS: [subgraph]}), _IDENTIFIER)
    files = {name: content for name, content in graph.attachments.items() if name != _LABELS}
    if labels is not None:
        files[_LABELS] = "".join(f"{label}\n" for label in labels).encode()
    graph.describe(_ENTRY, bytes(builder.Output()), files)


def _input(graph: FlatGraph, index: int) -> Mapping[int, Any]:
    tensor: dict[int, Any] = {_NAME: "image", _TEXT: "the image"}
    if graph.input_format is None or graph.shape(index)[-1:] != (3,):
        return tensor
    height, width = graph.shape(index)[1:3]
    seen = crop_fraction(graph.model, graph.where)
    black, white = limits(graph.input_format)
    std = 255 / (white - black)
    numbers = {0: (-black * std).astype(np.float32), 1: std.astype(np.float32)}
    if graph.input_format != "normalized":  # readers want one number where all channels have the same
        numbers = {slot: values[:1] for slot, values in numbers.items()}
    return {
        _NAME: "image",
        _TEXT: (
            f"RGB image: the centre {seen:.1%} of the picture, resized to {height} x {width}; "
            "(pixel - mean) / std of pixels 0 to 255"
        ),
        _CONTENT: {0: _IMAGE, 1: {0: _RGB}},
        _PROCESS: [{0: _NORMALIZATION, 1: numbers}],
        _STATS: {0: white.max(keepdims=True).astype(np.float32), 1: black.min(keepdims=True).astype(np.float32)},
    }


def _output(graph: FlatGraph, index: int, labelled: bool) -> Mapping[int, Any]:
    name = {"softmax": "probability", "sigmoid": "probability", "logits": "logit"}.get(scores_of(graph) or "", "output")
    tensor: dict[int, Any] = {_NAME: name, _TEXT: f"{name} of each class" if labelled else name}
    if labelled:
        file = {_NAME: _LABELS, _TEXT: "the name of each class", 2: _AXIS_LABELS}
        tensor |= {_CONTENT: {0: _FEATURES, 1: {}}, _FILES: [file]}
    return tensor


def _write(builder: flatbuffers.Builder, value: Any) -> int:
    """Write a text, an array, a list of tables, or a table as its fields by slot; return where it is."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        places = [_write(builder, item) for item in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    children = {slot: _write(builder, child) for slot, child in value.items() if not isinstance(child, np.uint8)}
    builder.StartObject(max(value, default=-1) + 1)
    for slot, child in value.items():
        if slot in children:
            builder.PrependUOffsetTRelativeSlot(slot, children[slot], 0)
        else:
            builder.PrependUint8Slot(slot, int(child), 0)
    return builder.EndObject()


def about_of(graph: FlatGraph) -> About | None:
    """Return what a file says it is; None where it has no metadata.

    Raises:
        DeployError: metadata that cannot be read.
    """
    model = _read(graph)
    if model is None:
        return None
    slots = (_TEXT, _VERSION, _AUTHOR, _LICENSE)
    description, version, author, license = (model.text(slot) for slot in slots)
    return About(name=model.text(_NAME) or "", description=description, version=version, author=author, license=license)


def labels_of(graph: FlatGraph) -> tuple[str, ...] | None:
    """Return the labels inside a file, in the order of its outputs; None where it has none.

    Raises:
        DeployError: labels that cannot be read, or that are not as many as the outputs.
    """
    classes, model = classes_of(graph), _read(graph)
    if classes is None or not graph.attachments:
        return None
    tensors = [] if model is None else _tensors(model, _OUTPUTS)
    files = (file.text(_NAME) or "" for tensor in tensors for file in tensor.tables(_FILES))
    name = next((name for name in itertools.islice(files, _MOST) if name in graph.attachments), _LABELS)
    if name not in graph.attachments:
        return None
    try:
        labels = tuple(graph.attachments[name].decode().splitlines())
    except UnicodeDecodeError:
        raise DeployError(f"{graph.where}: its labels are no UTF-8 text") from None
    if len(labels) != classes:
        raise DeployError(f"{graph.where}: holds {len(labels)} labels for {classes} classes")
    return labels


def classes_of(graph: FlatGraph) -> int | None:
    """Return how many classes a classifier has; None for what has another output than (1, classes)."""
    return classes_in([graph.shape(index) for index in graph.outputs])


def classes_in(shapes: Sequence[Sequence[int]]) -> int | None:
    """Return the same, given the shapes of all outputs.

    >>> classes_in([(1, 10)]), classes_in([(1, 7, 7, 40)]), classes_in([(1, 10), (1, 4)])
    (10, None, None)
    """
    return shapes[0][1] if [len(shape) for shape in shapes] == [2] else None


def normalization_of(graph: FlatGraph) -> tuple[np.ndarray, np.ndarray] | None:
    """Return mean and std, each float (3,), that a file's metadata asks for: (pixel - mean) / std; None for nothing.

    Raises:
        DeployError: metadata that cannot be read.
    """
    model = _read(graph)
    tensors = [] if model is None else _tensors(model, _INPUTS)
    for unit in (unit for tensor in tensors for unit in tensor.tables(_PROCESS)):
        if unit.byte(0) == _NORMALIZATION and (options := unit.table(1)) is not None:
            mean, std = options.floats(0), options.floats(1)
            if {mean.size, std.size} <= {1, 3} and np.isfinite([*mean, *std]).all() and (std > 0).all():
                return np.broadcast_to(mean, 3), np.broadcast_to(std, 3)
    return None


def _read(graph: FlatGraph) -> "_Reader | None":
    content = entry(graph.model, _ENTRY)
    if content is None or content[4:8] != _IDENTIFIER:
        return None
    return _Reader(Table(content, struct.unpack_from("<I", content)[0]), graph.where)


def _tensors(model: "_Reader", side: int) -> list["_Reader"]:
    return [tensor for graph in model.tables(_GRAPHS) for tensor in graph.tables(side)]


class _Reader:
    """A table of a flatbuffer from anywhere: fields by slot, or DeployError where it is damaged."""

    def __init__(self, table: Table, where: str):
        self._table, self._where = table, where

    def _at(self, slot: int) -> int:
        offset = self._guarded(self._table.Offset, 4 + 2 * slot)
        return offset and self._table.Pos + offset

    def _guarded(self, read: Any, *arguments: Any) -> Any:
        try:
            return read(*arguments)
        except (struct.error, IndexError, TypeError, ValueError, OverflowError) as error:
            raise DeployError(f"{self._where}: its metadata is damaged") from error

    def text(self, slot: int) -> str | None:
        """Return a text; None where there is none."""
        at = self._at(slot)
        return self._guarded(self._table.String, at).decode("utf-8", "replace") if at else None

    def byte(self, slot: int) -> int:
        """Return a small number; 0 where there is none."""
        at = self._at(slot)
        return self._guarded(lambda: self._table.Bytes[at]) if at else 0

    def table(self, slot: int) -> "_Reader | None":
        """Return a table inside this one."""
        at = self._at(slot)
        return self._inside(at) if at else None

    def _inside(self, at: int) -> "_Reader":
        """Return the table that the offset at a place leads to."""
        content = self._table.Bytes
        table = self._guarded(lambda: Table(content, self._table.Indirect(at)))
        return _Reader(table, self._where)

    def _vector(self, slot: int) -> tuple[int, int]:
        """Return where a vector begins, and how many items of 4 bytes it has."""
        if not (at := self._at(slot)):
            return 0, 0
        offset = at - self._table.Pos
        start, count = self._guarded(lambda: (self._table.Vector(offset), self._table.VectorLen(offset)))
        if count > _MOST or start + 4 * count > len(self._table.Bytes):
            raise DeployError(f"{self._where}: its metadata is damaged")
        return start, count

    def tables(self, slot: int) -> list["_Reader"]:
        """Return the tables of a vector."""
        start, count = self._vector(slot)
        return [self._inside(start + 4 * i) for i in range(count)]

    def floats(self, slot: int) -> np.ndarray:
        """Return a vector of floats."""
        start, count = self._vector(slot)
        return np.frombuffer(self._table.Bytes, "<f4", count, start).astype(np.float64) if count else np.zeros(0)
