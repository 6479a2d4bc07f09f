"""What this package records in a ``.tflite`` about itself: named entries of its metadata."""

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.data.choices import INPUT_FORMATS
from mixnet_tf.litert.packing import Buffer

_INPUT_FORMAT = b"mixnet_tf.input_format"


def input_format(model: Any) -> str | None:
    """Return what a parsed file says that it takes for an image, one of INPUT_FORMATS; None where it says nothing."""
    return next((_format(model.buffers[entry.buffer].data) for entry in _entries(model)), None)


def set_input_format(model: Any, name: str | None) -> None:
    """Record it, or with None forget it."""
    old = _entries(model)
    model.metadata = [entry for entry in model.metadata or [] if entry not in old]
    if name is not None:
        model.metadata.append(schema.MetadataT(name=_INPUT_FORMAT, buffer=len(model.buffers)))
        model.buffers.append(Buffer(data=name.encode()))


def recorded_format(content: bytes) -> str | None:
    """Return the input format of a whole file, without parsing the rest of it."""
    model = schema.Model.GetRootAs(content, 0)
    for entry in map(model.Metadata, range(model.MetadataLength())):
        if entry.Name() == _INPUT_FORMAT:
            buffer = model.Buffers(entry.Buffer())
            return _format(None if buffer.DataIsNone() else buffer.DataAsNumpy())
    return None


def _entries(model: Any) -> list[Any]:
    return [entry for entry in model.metadata or [] if entry.name == _INPUT_FORMAT]


def _format(data: Any) -> str | None:
    name = bytes(b"" if data is None else data).decode("ascii", "replace")
    return name if name in INPUT_FORMATS else None
