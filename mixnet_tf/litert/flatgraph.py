"""The operators and constants of a ``.tflite``, to be read, changed and written back. No other module parses one."""

import copy
import dataclasses
import functools
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.errors import DeployError
from mixnet_tf.guard.verification import OP_NAMES, TYPE_NAMES, builtin_code, check_counts, default_options, verify
from mixnet_tf.litert import metadata
from mixnet_tf.litert.attachments import attachments, with_attachments
from mixnet_tf.litert.packing import IDENTIFIER, Buffer, pack

_TYPES: dict[int, np.dtype] = {
    schema.TensorType.FLOAT32: np.dtype(np.float32),
    schema.TensorType.INT32: np.dtype(np.int32),
    schema.TensorType.INT8: np.dtype(np.int8),
    schema.TensorType.UINT8: np.dtype(np.uint8),
    schema.TensorType.INT64: np.dtype(np.int64),
}
_VERSIONS = {"QUANTIZE": 2, "DEQUANTIZE": 2}
_DAMAGE = (struct.error, IndexError, TypeError, ValueError, AttributeError, KeyError, OverflowError)


@dataclasses.dataclass(frozen=True)
class Op:
    """An operator.

    Attributes:
        name: as in ``CONV_2D``, or ``custom`` and a name.
        inputs: indices of tensors; -1 is one that the operator does without.
        outputs: indices of tensors.
        options: in LiteRT's schema.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A tensor of the graph; `scale` and `zero_point` are None where it is not quantized per tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


class FlatGraph:
    """The main subgraph of a ``.tflite``.

    Args:
        content: the file.
        where: the file's name, for messages.
        verbatim: as long as nothing changes, `content` is what was read, and not packed anew.

    Attributes:
        where: the file's name, for messages.
        model: the file in LiteRT's schema. Change it through the methods below: `ops` and `content` are remembered.
        attachments: the files inside the file, by name.

    Raises:
        DeployError: not a ``.tflite``, or a damaged one.

    Example:
        >>> from mixnet_tf import convert, create_model
        >>> graph = convert(create_model("mixnet_nano", classes=10), image_size=32)
        >>> graph.ops[-1].name, graph.shape(graph.outputs[0])
        ('SOFTMAX', (1, 10))
    """

    def __init__(self, content: bytes, where: str = "the model", *, verbatim: bool = False):
        content, self.where = bytes(content), where
        if content[4:8] != IDENTIFIER:
            raise DeployError(f"{where}: not a .tflite (bytes 4 to 8 are {content[4:8]!r}, expected {IDENTIFIER!r})")
        try:
            check_counts(content)
            self.model = schema.ModelT.InitFromPackedBuf(content, 0)
            self._subgraph = self.model.subgraphs[0]
            self.model.buffers = [Buffer.of(buffer, content) for buffer in self.model.buffers]
            verify(self.model, where)
        except DeployError:
            raise
        except _DAMAGE as error:
            raise DeployError(f"{where}: truncated or damaged .tflite, its tables cannot be read") from error
        self.attachments = attachments(content, where)
        if verbatim:
            self.__dict__["_content"] = content

    @classmethod
    def read(cls, path: str | Path) -> "FlatGraph":
        """Read a file, verbatim.

        Raises:
            DeployError: no such file, not a ``.tflite``, or a damaged one.
        """
        if not Path(path).is_file():
            raise DeployError(f"{path}: no such file; expected a .tflite")
        return cls(Path(path).read_bytes(), str(path), verbatim=True)

    @property
    def tensors(self) -> list[Any]:
        """The tensors in LiteRT's schema."""
        return self._subgraph.tensors or []

    @property
    def inputs(self) -> list[int]:
        """Indices of the graph's inputs."""
        return list(_indices(self._subgraph.inputs))

    @property
    def outputs(self) -> list[int]:
        """Indices of the graph's outputs."""
        return list(_indices(self._subgraph.outputs))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the graph's first input, an image."""
        _, height, width, _ = self.shape(self.inputs[0])
        return height, width

    @property
    def input_format(self) -> str | None:
        """What the file says that it takes for an image: one of INPUT_FORMATS, or None."""
        return metadata.input_format(self.model)

    @input_format.setter
    def input_format(self, name: str | None) -> None:
        metadata.set_input_format(self.model, name)
        self._changed()

    def describe(self, entry: str, content: bytes, attachments: Mapping[str, bytes]) -> None:
        """Write an entry of the metadata, and the files that go with it in place of those there are."""
        metadata.set_entry(self.model, entry, content)
        self.attachments = dict(attachments)
        self._changed()

    @functools.cached_property
    def ops(self) -> tuple[Op, ...]:
        """The operators in the order in which they run."""
        return tuple(
            Op(self._op_name(op), _indices(op.inputs), _indices(op.outputs), self._options(op))
            for op in self._subgraph.operators or []
        )

    def _op_name(self, op: Any) -> str:
        code = self.model.operatorCodes[op.opcodeIndex]
        return f"custom {code.customCode.decode()}" if code.customCode else OP_NAMES[builtin_code(code)]

    def _options(self, op: Any) -> Any:
        if op.builtinOptions is not None:
            return op.builtinOptions
        return default_options(builtin_code(self.model.operatorCodes[op.opcodeIndex]))

    def _changed(self) -> None:
        """Forget what was computed from the operators and tensors."""
        for name in ("ops", "_content"):
            self.__dict__.pop(name, None)

    def copy(self) -> "FlatGraph":
        """Return a graph that changes by itself; the constants are shared until one is set."""
        twin = copy.copy(self)
        twin._changed()
        twin.model = copy.deepcopy(self.model)
        twin._subgraph = twin.model.subgraphs[0]
        return twin

    def tensor(self, index: int) -> TensorInfo:
        """Return what people want to know of a tensor."""
        tensor = self.tensors[index]
        quantization = tensor.quantization
        scales = [] if quantization is None or quantization.scale is None else list(quantization.scale)
        points = [] if quantization is None or quantization.zeroPoint is None else list(quantization.zeroPoint)
        return TensorInfo(
            name=(tensor.name or b"").decode(),
            shape=self.shape(index),
            dtype=TYPE_NAMES[tensor.type].lower(),
            scale=float(scales[0]) if len(scales) == 1 else None,
            zero_point=int(points[0]) if len(points) == len(scales) == 1 else None,
        )

    def name(self, index: int) -> str:
        """Return a tensor's name."""
        return (self.tensors[index].name or b"").decode()

    def shape(self, index: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def is_constant(self, index: int) -> bool:
        """Say whether a tensor's content is in the file."""
        return self.model.buffers[self.tensors[index].buffer].data is not None

    def constant(self, index: int) -> np.ndarray:
        """Return the content of a constant tensor; not to be written to."""
        tensor = self.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        return np.frombuffer(data, _TYPES[tensor.type]).reshape(self.shape(index))

    def float_tensors(self) -> list[int]:
        """Indices of the float32 tensors that are computed, not constant: the graph's inputs, then in graph order."""
        written = [index for op in self.ops for index in op.outputs]
        return [i for i in [*self.inputs, *written] if self.tensors[i].type == schema.TensorType.FLOAT32]

    def set_constant(self, op: Op, position: int, content: np.ndarray) -> None:
        """Give an operator a constant of its own at `position` of its inputs; who else read the old one, keeps it."""
        old = op.inputs[position]
        tensor = self.tensors[old]
        if sum(reader.inputs.count(old) for reader in self.ops) > 1:
            tensor = copy.copy(tensor)
            tensor.name = f"{tensor.name.decode()}_{op.outputs[0]}".encode()
            self.tensors.append(tensor)
            (operator,) = [writer for writer in self._subgraph.operators if writer.outputs[0] == op.outputs[0]]
            operator.inputs = np.array(operator.inputs)
            operator.inputs[position] = len(self.tensors) - 1
            self._changed()
        self._fill(tensor, content)

    def set_quantization(self, index: int, quantization: Any) -> None:
        """Give a tensor a quantization, in LiteRT's schema."""
        self.tensors[index].quantization = quantization
        self._changed()

    def add_constant(self, name: str, content: np.ndarray, quantization: Any) -> int:
        """Add a constant tensor of the type of `content`, quantized as told, and return its index."""
        kind = next(kind for kind, dtype in _TYPES.items() if dtype == content.dtype)
        index = self._add_tensor(name, content.shape, kind, quantization)
        self._fill(self.tensors[index], content)
        return index

    def prepend(
        self, kind: str, name: str, constants: tuple[int, ...] = (), options: Any = None, **tensor: Any
    ) -> None:
        """Put an operator before the input. It reads `constants`, and a new input of the old one's shape.

        The new input is called `name`, and `tensor` holds its type and quantization.
        """
        (old,) = self.inputs
        new = self._add_tensor(name, self.shape(old), **tensor)
        self._subgraph.operators.insert(0, self._operator(kind, (new, *constants), (old,), options))
        self._subgraph.inputs = np.array([new], np.int32)
        self._rename(old, new, "inputs")
        self._changed()

    def order_outputs(self, names: Sequence[str]) -> None:
        """Give the outputs of the signature out in the order of these names."""
        (signature,) = self.model.signatureDefs
        indices = {named.name.decode(): named.tensorIndex for named in signature.outputs}
        self._subgraph.outputs = np.array([indices[name] for name in names], np.int32)
        self._changed()

    def drop(self, op: Op) -> None:
        """Take an operator of one input out: who reads its output, or gives it out, has its input instead."""
        (new,), (old,), operators = op.inputs, op.outputs, self._subgraph.operators
        del operators[self.ops.index(op)]
        for reader in operators:
            reader.inputs = np.array([new if index == old else index for index in _indices(reader.inputs)], np.int32)
        self._subgraph.outputs = np.array([new if index == old else index for index in self.outputs], np.int32)
        self._rename(old, new, "outputs")
        self._changed()

    def append(self, kind: str, name: str, options: Any = None, *, type: int, quantizations: Sequence = ()) -> None:
        """Put an operator after every output; the new outputs are called `name` and a number."""
        for position, old in enumerate(self.outputs):
            quantization = quantizations[position] if quantizations else None
            new = self._add_tensor(f"{name}:{position}", self.shape(old), type, quantization)
            self._subgraph.operators.append(self._operator(kind, (old,), (new,), options))
            self._subgraph.outputs = np.array(self._subgraph.outputs, np.int32)
            self._subgraph.outputs[position] = new
            self._rename(old, new, "outputs")
        self._changed()

    def _rename(self, old: int, new: int, side: str) -> None:
        for signature in self.model.signatureDefs or []:
            for named in getattr(signature, side):
                if named.tensorIndex == old:
                    named.tensorIndex = new

    def _add_tensor(self, name: str, shape: tuple[int, ...], type: int, quantization: Any = None) -> int:
        sizes = np.array(shape, np.int32)
        self.tensors.append(
            schema.TensorT(shape=sizes, type=type, name=name.encode(), buffer=0, quantization=quantization)
        )
        return len(self.tensors) - 1

    def _operator(self, kind: str, inputs: tuple[int, ...], outputs: tuple[int, ...], options: Any) -> Any:
        operator = schema.OperatorT(opcodeIndex=self._code_index(kind))
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        return operator

    def _code_index(self, kind: str) -> int:
        """Return where the file lists an operator's kind; it is added where it is missing."""
        code, codes = getattr(schema.BuiltinOperator, kind), self.model.operatorCodes
        known = [i for i, listed in enumerate(codes) if listed.builtinCode == code]
        if known:
            return known[0]
        version = _VERSIONS.get(kind, 1)
        codes.append(schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version))
        return len(codes) - 1

    def _fill(self, tensor: Any, content: np.ndarray) -> None:
        tensor.buffer = len(self.model.buffers)
        data = np.ascontiguousarray(content, _TYPES[tensor.type])
        self.model.buffers.append(Buffer(data=data.tobytes()))
        self.__dict__.pop("_content", None)  # the operators are what they were

    def content(self) -> bytes:
        """Return the file, with the buffers nobody reads emptied."""
        return self._content

    @functools.cached_property
    def _content(self) -> bytes:
        return self._pack()

    def _pack(self) -> bytes:
        tensors = [tensor for graph in self.model.subgraphs for tensor in graph.tensors]
        read = {tensor.buffer for tensor in tensors} | {entry.buffer for entry in self.model.metadata or []}
        for i, buffer in enumerate(self.model.buffers):
            if i not in read:
                buffer.data = None
        return with_attachments(pack(self.model), self.attachments)


def _indices(tensors: Any) -> tuple[int, ...]:
    return () if tensors is None else tuple(int(index) for index in tensors)
