"""The operators and constants of a ``.tflite``, to be read, changed and written back, and run tensor by tensor."""

import collections
import dataclasses
import warnings
from collections.abc import Iterator, Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.runtime import quantized
from mixnet_tf.quiet import quiet

_IDENTIFIER = b"TFL3"
_TYPES = {
    schema.TensorType.FLOAT32: np.dtype(np.float32),
    schema.TensorType.INT32: np.dtype(np.int32),
    schema.TensorType.INT8: np.dtype(np.int8),
    schema.TensorType.UINT8: np.dtype(np.uint8),
    schema.TensorType.INT64: np.dtype(np.int64),
}
_VERSIONS = {"QUANTIZE": 2, "DEQUANTIZE": 2}
_OP_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


@dataclasses.dataclass(frozen=True)
class Op:
    """An operator: its name as in ``CONV_2D``, the indices of its tensors, and its options in LiteRT's schema.

    An input of -1 is one that the operator does without.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: object


class _Buffer(schema.BufferT):
    """A buffer that is written at a multiple of 16 bytes, as the schema asks; flatbuffers' Python code forgets it."""

    @classmethod
    def of(cls, buffer, content: bytes) -> "_Buffer":
        if buffer.offset > 1:  # beside the flatbuffer, which is how a large file is written
            return cls(data=bytes(content[buffer.offset : buffer.offset + buffer.size]))
        return cls(data=None if buffer.data is None else bytes(buffer.data))

    def Pack(self, builder):  # noqa: N802
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

    def __init__(self):
        super().__init__(1 << 20)
        self._written: dict[tuple, int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        key = x.dtype.str, x.tobytes()
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


class FlatGraph:
    """The one subgraph of a ``.tflite``.

    Args:
        content: the file.

    Raises:
        DeployError: not a ``.tflite``, or one with several subgraphs.

    Example:
        >>> from mixnet_tf import create_model
        >>> from mixnet_tf.litert.convert import convert
        >>> graph = FlatGraph(convert(create_model("mixnet_nano", classes=10), "float32", image_size=32))
        >>> graph.ops[-1].name, graph.shape(graph.outputs[0])
        ('FULLY_CONNECTED', (1, 10))
    """

    def __init__(self, content: bytes):
        if bytes(content[4:8]) != _IDENTIFIER:
            raise DeployError("not the content of a .tflite; expected 'TFL3' after the first four bytes")
        self.model = schema.ModelT.InitFromPackedBuf(bytes(content), 0)
        if len(self.model.subgraphs) != 1:
            raise DeployError(f"a .tflite with {len(self.model.subgraphs)} subgraphs, expected one")
        self._subgraph = self.model.subgraphs[0]
        self.model.buffers = [_Buffer.of(buffer, content) for buffer in self.model.buffers]

    @property
    def tensors(self) -> list:
        """The tensors in LiteRT's schema."""
        return self._subgraph.tensors

    @property
    def inputs(self) -> list[int]:
        """Indices of the graph's inputs."""
        return [int(index) for index in self._subgraph.inputs]

    @property
    def outputs(self) -> list[int]:
        """Indices of the graph's outputs."""
        return [int(index) for index in self._subgraph.outputs]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the graph's first input, an image."""
        return self.shape(self.inputs[0])[1:3]

    @property
    def ops(self) -> list[Op]:
        """The operators in the order in which they run."""
        codes = self.model.operatorCodes
        return [
            Op(
                _OP_NAMES[max(codes[op.opcodeIndex].builtinCode, codes[op.opcodeIndex].deprecatedBuiltinCode)],
                tuple(int(index) for index in op.inputs),
                tuple(int(index) for index in op.outputs),
                op.builtinOptions,
            )
            for op in self._subgraph.operators
        ]

    def name(self, index: int) -> str:
        """Return a tensor's name."""
        return self.tensors[index].name.decode()

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
        if sum(list(other.inputs).count(old) for other in self._subgraph.operators) > 1:
            tensor = _like(tensor, name=f"{tensor.name.decode()}_{op.outputs[0]}".encode())
            self.tensors.append(tensor)
            own = next(other for other in self._subgraph.operators if other.outputs[0] == op.outputs[0])
            own.inputs = np.array(own.inputs)
            own.inputs[position] = len(self.tensors) - 1
        self._fill(tensor, content)

    def add_constant(self, name: str, content: np.ndarray, quantization) -> int:
        """Add a constant tensor of the type of `content`, quantized as told, and return its index."""
        kind = next(kind for kind, dtype in _TYPES.items() if dtype == content.dtype)
        index = self._add_tensor(name, content.shape, kind, quantization)
        self._fill(self.tensors[index], content)
        return index

    def prepend(self, kind: str, name: str, constants: tuple[int, ...] = (), options=None, **tensor) -> None:
        """Put an operator before the input; it reads a new input called `name` of the old one's shape.

        Args:
            kind: ``"QUANTIZE"`` or ``"DEPTHWISE_CONV_2D"``.
            name: of the new input tensor.
            constants: what the operator reads besides.
            options: of the operator, in LiteRT's schema.
            **tensor: type and quantization of the new input.
        """
        (old,) = self.inputs
        new = self._add_tensor(name, self.shape(old), **tensor)
        self._subgraph.operators.insert(0, self._operator(kind, (new, *constants), (old,), options))
        self._subgraph.inputs = np.array([new], np.int32)
        self._rename(old, new, "inputs")

    def append(self, kind: str, name: str, **tensor) -> None:
        """Put an operator after every output; the new outputs are called `name` and a number."""
        for position, old in enumerate(self.outputs):
            new = self._add_tensor(f"{name}:{position}", self.shape(old), **tensor)
            self._subgraph.operators.append(self._operator(kind, (old,), (new,), None))
            self._subgraph.outputs = np.array(self._subgraph.outputs, np.int32)
            self._subgraph.outputs[position] = new
            self._rename(old, new, "outputs")

    def _rename(self, old: int, new: int, side: str) -> None:
        for signature in self.model.signatureDefs or []:
            for named in getattr(signature, side):
                if named.tensorIndex == old:
                    named.tensorIndex = new

    def _add_tensor(self, name: str, shape: tuple[int, ...], type: int, quantization=None) -> int:
        shape = np.array(shape, np.int32)
        own = schema.TensorT(shape=shape, type=type, name=name.encode(), buffer=0, quantization=quantization)
        self.tensors.append(own)
        return len(self.tensors) - 1

    def _operator(self, kind: str, inputs: tuple[int, ...], outputs: tuple[int, ...], options):
        code = getattr(schema.BuiltinOperator, kind)
        found = [i for i, own in enumerate(self.model.operatorCodes) if own.builtinCode == code]
        if not found:
            version = _VERSIONS.get(kind, 1)
            own = schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=version)
            self.model.operatorCodes.append(own)
            found = [len(self.model.operatorCodes) - 1]
        operator = schema.OperatorT(opcodeIndex=found[0])
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        return operator

    def _fill(self, tensor, content: np.ndarray) -> None:
        tensor.buffer = len(self.model.buffers)
        data = np.ascontiguousarray(content, _TYPES[tensor.type])
        self.model.buffers.append(_Buffer(data=data.tobytes()))

    def content_up_to(self, tensors: Sequence[int]) -> bytes:
        """Return a file without a signature whose outputs are `tensors`, without the operators that follow them all."""
        own, signatures = self._subgraph, self.model.signatureDefs
        operators, outputs = own.operators, own.outputs
        last = max(i for i, op in enumerate(operators) if set(op.outputs) & set(tensors))
        own.operators, own.outputs, self.model.signatureDefs = operators[: last + 1], np.array(tensors, np.int32), None
        try:
            return self.content()
        finally:
            own.operators, own.outputs, self.model.signatureDefs = operators, outputs, signatures

    def content(self) -> bytes:
        """Return the file, with the buffers nobody reads emptied."""
        read = {tensor.buffer for tensor in self.tensors} | {m.buffer for m in self.model.metadata or []}
        for i, buffer in enumerate(self.model.buffers):
            if i not in read:
                buffer.data = None
        builder = _Builder()
        builder.Finish(self.model.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())


def _like(tensor, **changes):
    """Return a copy of a tensor of the schema with some fields changed."""
    copied = schema.TensorT()
    vars(copied).update(vars(tensor) | changes)
    return copied


class _Runner:
    def __init__(self, content: bytes, num_threads: int, **options):
        from ai_edge_litert.interpreter import Interpreter

        try:
            with quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that keeping all tensors is for debugging: it is what we do
                self._interpreter = Interpreter(model_content=bytes(content), num_threads=num_threads, **options)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise DeployError(f"LiteRT cannot run the model: {' '.join(str(error).split())[:200]}") from error
        self._input = self._interpreter.get_input_details()[0]

    def run(self, image: np.ndarray) -> None:
        """Run on one float image (1, height, width, channels), quantized where the file's input is integer."""
        self._interpreter.set_tensor(self._input["index"], quantized(image, self._input))
        self._interpreter.invoke()


class Probe(_Runner):
    """Runs a float ``.tflite`` on LiteRT's own kernels and keeps every tensor: the delegate hides what it fuses.

    Args:
        content: the file.
        num_threads: CPU threads.

    Raises:
        DeployError: LiteRT cannot run it.
    """

    def __init__(self, content: bytes, num_threads: int = 2):
        from ai_edge_litert.interpreter import OpResolverType

        super().__init__(
            content,
            num_threads,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )

    def value(self, index: int) -> np.ndarray:
        """Return a tensor of the last run."""
        return self._interpreter.get_tensor(index)


class Outputs(_Runner):
    """Runs a ``.tflite``, float or int8, on the delegate and returns its outputs in float, in their order."""

    def __init__(self, content: bytes, num_threads: int = 2):
        super().__init__(content, num_threads)

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """Run one float image (1, height, width, channels)."""
        self.run(image)
        return [self._float(details) for details in self._interpreter.get_output_details()]

    def _float(self, details: dict) -> np.ndarray:
        value, (scale, zero_point) = self._interpreter.get_tensor(details["index"]), details["quantization"]
        return (value.astype(np.float32) - zero_point) * np.float32(scale) if scale else value


def readers(graph: FlatGraph) -> dict[int, list[Op]]:
    """Return the operators that read each tensor."""
    found = collections.defaultdict(list)
    for op in graph.ops:
        for index in op.inputs:
            found[index].append(op)
    return found


def convolutions(graph: FlatGraph) -> Iterator[Op]:
    """Yield the operators with a constant kernel and a constant bias, in graph order."""
    for op in graph.ops:
        named = op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        if named and len(op.inputs) == 3 and op.inputs[2] >= 0 and graph.is_constant(op.inputs[1]):
            yield op
