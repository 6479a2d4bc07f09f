"""Reading, changing and writing the flatbuffer of a .tflite."""

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.neighbours import convolutions, readers
from mixnet_tf.litert.packing import pack
from mixnet_tf.litert.parts import up_to
from mixnet_tf.litert.runtime import LiteModel


@pytest.fixture(scope="module")
def content(nano_float32) -> bytes:
    return nano_float32.read_bytes()


@pytest.fixture
def residual(fixtures) -> FlatGraph:
    return FlatGraph((fixtures / "tiny" / "residual.tflite").read_bytes())


IMAGE = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
PATCH = IMAGE[:, :4, :4]


def test_what_is_read_is_written_again(content):
    again = FlatGraph(content).content()
    np.testing.assert_array_equal(LiteModel(content).run(IMAGE)[0], LiteModel(again).run(IMAGE)[0])
    assert FlatGraph(again).content() == again


def test_every_committed_file_is_read_as_flatbuffers_reads_it(fixtures):
    """Names, shapes and operators against the accessors of the generated schema, which FlatGraph does not use."""
    paths = sorted(fixtures.rglob("*.tflite"))
    assert len(paths) > 20
    for path in paths:
        graph, model = FlatGraph(path.read_bytes()), schema.Model.GetRootAs(path.read_bytes())
        subgraph = model.Subgraphs(0)
        assert graph.inputs == list(subgraph.InputsAsNumpy()) and graph.outputs == list(subgraph.OutputsAsNumpy())
        assert len(graph.tensors) == subgraph.TensorsLength() and len(graph.ops) == subgraph.OperatorsLength()
        for i in range(subgraph.TensorsLength()):
            tensor = subgraph.Tensors(i)
            assert graph.name(i) == tensor.Name().decode()
            assert graph.shape(i) == tuple(np.atleast_1d(tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ())
            assert graph.is_constant(i) == (model.Buffers(tensor.Buffer()).DataLength() > 0)
        for i, op in enumerate(graph.ops):
            assert op.inputs == tuple(np.atleast_1d(subgraph.Operators(i).InputsAsNumpy()))


def test_operators_and_file_are_computed_once(residual):
    assert residual.ops is residual.ops and residual.content() is residual.content()
    before = residual.content()
    residual.set_constant(residual.ops[0], 2, np.ones(4, np.float32))
    assert residual.content() != before


def test_a_copy_changes_by_itself(residual):
    before, twin = residual.content(), residual.copy()
    assert twin.content() == before
    twin.set_constant(twin.ops[0], 1, 3 * twin.constant(twin.ops[0].inputs[1]))
    twin.append("DEQUANTIZE", "scores", type=schema.TensorType.FLOAT32)
    residual._changed()
    assert residual.content() == before and len(twin.ops) == len(residual.ops) + 1


def test_a_shared_constant_is_kept_for_who_else_reads_it(residual):
    first, second = residual.ops[0], residual.ops[2]  # two convolutions to four channels
    operator = residual.model.subgraphs[0].operators[2]
    operator.inputs = np.array(operator.inputs)
    operator.inputs[2] = first.inputs[2]
    residual._changed()
    kept = residual.constant(first.inputs[2]).copy()
    residual.set_constant(residual.ops[2], 2, np.full(4, 7, np.float32))
    assert residual.constant(residual.ops[0].inputs[2]).tolist() == kept.tolist()
    assert residual.constant(residual.ops[2].inputs[2]).tolist() == [7] * 4
    assert residual.ops[2].outputs == second.outputs
    again = FlatGraph(residual.content())
    assert again.constant(again.ops[2].inputs[2]).tolist() == [7] * 4


def test_a_prefix_gives_the_tensors_asked_for_in_their_order(residual):
    kernel, bias = (residual.constant(i) for i in residual.ops[0].inputs[1:])
    stem = PATCH @ kernel[:, 0, 0].T + bias
    wanted = [residual.ops[1].outputs[0], residual.ops[0].outputs[0]]
    part = up_to(residual, wanted)
    relu, first = LiteModel(part).run(PATCH)
    np.testing.assert_allclose(first, stem, rtol=1e-5, atol=1e-5)
    kernel, bias = (residual.constant(i) for i in residual.ops[1].inputs[1:])
    np.testing.assert_allclose(relu, np.maximum(stem @ kernel[:, 0, 0].T + bias, 0), rtol=1e-5, atol=1e-5)
    assert len(FlatGraph(part).ops) == 2 and len(residual.ops) == 8
    assert [residual.name(i) for i in residual.outputs] == ["PartitionedCall:0"]


def test_readers_and_convolutions(residual):
    stem = residual.ops[0].outputs[0]
    assert [op.name for op in readers(residual)[stem]] == ["CONV_2D", "ADD"]
    assert [residual.shape(op.inputs[1])[0] for op in convolutions(residual)] == [4, 5, 4, 5, 4, 2]


def test_equal_vectors_are_written_once(content):
    graph = FlatGraph(content)
    for i in range(10):
        ones = schema.QuantizationParametersT(scale=np.ones(1000, np.float32), zeroPoint=np.zeros(1000, np.int64))
        graph.add_constant(f"constant{i}", np.full(1000, i, np.int8), ones)
    again = graph.content()
    # 1 byte of content each, and once 4 of scale and 8 of zero point
    assert 22_000 < len(again) - len(content) < 25_000
    read = FlatGraph(again)
    names = [read.name(index) for index in range(len(read.tensors))]
    for i in range(10):
        index = names.index(f"constant{i}")
        tensor = read.tensors[index]
        assert read.constant(index).tolist() == [i] * 1000
        assert tensor.quantization.scale.tolist() == [1.0] * 1000 and not tensor.quantization.zeroPoint.any()


def test_constants_lie_at_multiples_of_16_bytes(content):
    packed = FlatGraph(content).content()
    model = schema.Model.GetRootAs(packed)
    vectors = [model.Buffers(i)._tab for i in range(model.BuffersLength()) if model.Buffers(i).DataLength()]
    starts = [table.Vector(flatbuffers.number_types.UOffsetTFlags.py_type(table.Offset(4))) for table in vectors]
    assert len(starts) > 40 and all(start % 16 == 0 for start in starts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 a zip file", r"^f\.tflite: not a \.tflite \(bytes 4 to 8 are b' a z', expected b'TFL3'\)$"),
        (b"", "not a .tflite"),
        (b"\x08\x00\x00\x00TFL3", "truncated or damaged"),
    ],
)
def test_what_is_not_a_tflite(content, message):
    with pytest.raises(DeployError, match=message):
        FlatGraph(content, "f.tflite")


def test_an_index_that_points_nowhere_is_damage(residual):
    for index in (99, -2):
        twin = residual.copy()
        twin.model.subgraphs[0].operators[3].inputs = np.array([0, index], np.int32)
        twin._changed()
        with pytest.raises(
            DeployError,
            match=rf"the model: damaged \.tflite: operator 3 \(ADD\) reads tensor {index}, expected one of 21",
        ):
            FlatGraph(twin.content())


def test_an_operator_without_options_has_the_schemas(fixtures):
    model = schema.ModelT.InitFromPackedBuf((fixtures / "tiny" / "residual.tflite").read_bytes(), 0)
    add, logistic = model.subgraphs[0].operators[3], FlatGraph((fixtures / "ops/int8_swish.tflite").read_bytes()).ops
    add.builtinOptions, add.builtinOptionsType = None, 0
    options = FlatGraph(pack(model)).ops[3].options
    assert isinstance(options, schema.AddOptionsT) and options.fusedActivationFunction == 0
    assert [op.options for op in logistic if op.name == "LOGISTIC"] == [None]


def test_vectors_that_are_not_there_are_empty(residual):
    graph = residual.model.subgraphs[0]
    graph.inputs = graph.outputs = graph.operators = graph.tensors = residual.model.signatureDefs = None
    empty = FlatGraph(pack(residual.model))
    assert (empty.inputs, empty.outputs, empty.ops, empty.tensors) == ([], [], (), [])


class Shared:
    """A table that is written once, however often it is named."""

    def __init__(self, table):
        self.table, self.offset = table, None

    def Pack(self, builder):  # noqa: N802
        self.offset = self.offset or self.table.Pack(builder)
        return self.offset


def test_a_graph_that_is_named_again_and_again_is_not_read_each_time(content):
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.subgraphs = [Shared(model.subgraphs[0])] * 10_000  # a file of 300 kB; reading it all would take minutes
    with pytest.raises(DeployError, match="truncated or damaged"):
        FlatGraph(pack(model))


def test_a_buffer_beside_the_flatbuffer_ends_inside_the_file(fixtures):
    content = (fixtures / "tiny" / "residual.tflite").read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    index = model.subgraphs[0].tensors[model.subgraphs[0].operators[0].inputs[1]].buffer
    wanted = bytes(model.buffers[index].data)
    model.buffers[index] = schema.BufferT(offset=len(content) * 2, size=len(wanted))
    flat = pack(model)
    whole = flat + bytes(len(content) * 2 - len(flat)) + wanted
    graph = FlatGraph(whole)
    assert graph.constant(graph.ops[0].inputs[1]).tobytes() == wanted
    with pytest.raises(DeployError, match="truncated or damaged"):
        FlatGraph(whole[:-1])
