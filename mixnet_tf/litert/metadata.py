"""Named entries of a ``.tflite``'s metadata, and what this package records there: what the file takes for an image."""

import contextlib
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.checks import shown
from mixnet_tf.data.choices import CROP_FRACTION, INPUT_FORMATS, LEAST_CROP
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.packing import Buffer

_INPUT_FORMAT, _CROP = "mixnet_tf.input_format", "mixnet_tf.crop_fraction"


def entry(model: Any, name: str) -> bytes | None:
    """Return the content of an entry of a parsed file; None where there is none."""
    return next((_bytes(model.buffers[old.buffer].data) for old in _entries(model, name)), None)


def set_entry(model: Any, name: str, content: bytes | None) -> None:
    """Write an entry, or with None forget it."""
    old = _entries(model, name)
    model.metadata = [listed for listed in model.metadata or [] if listed not in old]
    if content is None:
        return
    if not old:
        old = [schema.MetadataT(name=name.encode(), buffer=len(model.buffers))]
        model.buffers.append(None)
    model.metadata.append(old[0])
    model.buffers[old[0].buffer] = Buffer(data=content)


def input_format(model: Any) -> str | None:
    """Return what a parsed file says that it takes for an image, one of INPUT_FORMATS; None where it says nothing."""
    return _format(entry(model, _INPUT_FORMAT))


def set_input_format(model: Any, name: str | None) -> None:
    """Record it, or with None forget it."""
    set_entry(model, _INPUT_FORMAT, None if name is None else name.encode())


def crop_fraction(model: Any, where: str) -> float:
    """Return the part of a resized picture that a parsed file wants to see: CROP_FRACTION where it says nothing.

    Raises:
        DeployError: a record that is no such part; `where` names the file.
    """
    record = entry(model, _CROP)
    if record is None:
        return CROP_FRACTION
    text = record.decode("ascii", "replace")
    with contextlib.suppress(ValueError):
        if LEAST_CROP <= float(text) <= 1:
            return float(text)
    raise DeployError(f"{where}: its crop fraction is {shown(text)}, expected a number from {LEAST_CROP} to 1")


def set_crop_fraction(model: Any, fraction: float) -> None:
    """Record it."""
    set_entry(model, _CROP, f"{fraction:g}".encode())


def recorded_format(content: bytes) -> str | None:
    """Return the input format of a whole file, without parsing the rest of it."""
    model = schema.Model.GetRootAs(content, 0)
    for table in map(model.Metadata, range(model.MetadataLength())):
        if table.Name() == _INPUT_FORMAT.encode():
            buffer = model.Buffers(table.Buffer())
            return _format(None if buffer.DataIsNone() else _bytes(buffer.DataAsNumpy()))
    return None


def _entries(model: Any, name: str) -> list[Any]:
    return [listed for listed in model.metadata or [] if listed.name == name.encode()]


def _bytes(data: Any) -> bytes:
    return bytes(b"" if data is None else data)


def _format(content: bytes | None) -> str | None:
    name = (content or b"").decode("ascii", "replace")
    return name if name in INPUT_FORMATS else None
