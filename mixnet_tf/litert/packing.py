"""How a ``.tflite`` is written: what flatbuffers' Python code leaves undone."""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"


class Buffer(schema.BufferT):
    """A buffer that is written at a multiple of 16 bytes, as the schema asks; flatbuffers' Python code forgets it."""

    @classmethod
    def of(cls, buffer: Any, content: bytes) -> "Buffer":
        """Return the same buffer of a file's `content`."""
        if buffer.offset > 1:  # beside the flatbuffer, which is how a large file is written
            if buffer.offset + buffer.size > len(content):
                raise ValueError("a buffer ends behind the file")
            return cls(data=bytes(content[buffer.offset : buffer.offset + buffer.size]))
        return cls(data=None if buffer.data is None else bytes(buffer.data))

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        """Write the buffer."""
        if self.data is None:
            return super().Pack(builder)
        builder.StartVector(1, len(self.data), 16)
        builder.head -= len(self.data)
        builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class _Builder(flatbuffers.Builder):
    """Writes equal vectors once: the zero points of thousands of channels, all 0 and 8 bytes each, are a tenth of a
    small int8 file.
    """

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self._written: dict[tuple, int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        key = x.dtype.str, x.tobytes()
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


def pack(model: Any) -> bytes:
    """Return the content of the file that `model`, in LiteRT's schema, describes."""
    builder = _Builder()
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
