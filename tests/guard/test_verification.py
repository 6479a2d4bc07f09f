"""What is refused before LiteRT reads it: whole files with one table that contradicts the others."""

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph


def test_every_committed_file_is_whole(fixtures):
    paths = sorted(fixtures.rglob("*.tflite"))
    assert len(paths) > 20
    for path in paths:
        FlatGraph.read(path)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def tensor(model, index: int):
    return model.subgraphs[0].tensors[index]


def operator(model, index: int):
    return model.subgraphs[0].operators[index]


def quantized(**fields):
    """Quantize the first tensor, (1, 4, 4, 3), in int8."""

    def change(model):
        tensor(model, 0).type = schema.TensorType.INT8
        given = {"scale": np.ones(1, np.float32), "zeroPoint": np.zeros(1, np.int64)} | fields
        tensor(model, 0).quantization = schema.QuantizationParametersT(**given)

    return change


def attribute(of, **fields):
    """Set fields of what `of` returns."""

    def change(model):
        for name, value in fields.items():
            assert hasattr(of(model), name)
            setattr(of(model), name, value)

    return change


def first(model):
    return tensor(model, 0)


def addition(model):
    return operator(model, 3)


def stem(model):
    return operator(model, 0)


DAMAGE = {
    "negative size": (attribute(first, shape=ints(1, -4, 4, 3)), r"tensor 0: shape \[1, -4, 4, 3\]"),
    "many sizes": (attribute(first, shape=np.ones(9, np.int32)), "tensor 0: shape .* at most 8 sizes from 0"),
    "memory bomb": (attribute(first, shape=ints(1, 10000, 10000, 3)), "expected at most 1073741824 bytes"),
    "signature of another rank": (attribute(first, shapeSignature=ints(-1, 4)), "tensor 0: shape signature"),
    "type": (attribute(first, type=99), "tensor 0: type 99, which LiteRT does not have"),
    "buffer": (attribute(first, buffer=999), "tensor 0: buffer 999, expected one of"),
    "name": (attribute(first, name=b"\xff"), "tensor 0: a name that is not UTF-8"),
    "content that is short": (lambda model: cut(model, 1), r"tensor \d+: \d+ bytes of content, expected \d+"),
    "variable with content": (lambda model: kernel(model, isVariable=True), "a variable with content"),
    "text": (lambda model: kernel(model, type=schema.TensorType.STRING), "not the content of 12 texts"),
    "scale 0": (quantized(scale=np.zeros(1, np.float32)), "tensor 0: a scale that is not positive and finite"),
    "scale nan": (quantized(scale=np.full(1, np.nan, np.float32)), "a scale that is not positive and finite"),
    "zero points": (quantized(zeroPoint=np.zeros(2, np.int64)), "1 scales and 2 zero points"),
    "large zero point": (quantized(zeroPoint=np.full(1, 128, np.int64)), "a zero point outside int8"),
    "axis": (
        quantized(scale=np.ones(3, np.float32), zeroPoint=np.zeros(3, np.int64), quantizedDimension=4),
        r"3 scales along axis 4 of shape \[1, 4, 4, 3\]",
    ),
    "channels": (
        quantized(scale=np.ones(5, np.float32), zeroPoint=np.zeros(5, np.int64), quantizedDimension=3),
        "5 scales along axis 3",
    ),
    "opcode": (attribute(addition, opcodeIndex=50), "operator 3 has code 50, expected one of"),
    "operator": (
        lambda model: attribute(lambda model: model.operatorCodes[0], builtinCode=5000)(model),
        "operator code 0 is 5000, which LiteRT does not have",
    ),
    "input": (attribute(addition, inputs=ints(0, 99)), r"operator 3 \(ADD\) reads tensor 99, expected one of 21"),
    "too few inputs": (attribute(addition, inputs=ints(0)), r"operator 3 \(ADD\) has 1 inputs, expected 2"),
    "no input": (attribute(addition, inputs=ints(0, -1)), r"operator 3 \(ADD\) reads tensor -1"),
    "its own output": (
        lambda model: setattr(addition(model), "inputs", addition(model).outputs.repeat(2)),
        r"operator 3 \(ADD\) reads tensor \d+, which nothing has written",
    ),
    "order": (
        lambda model: model.subgraphs[0].operators.reverse(),
        r"operator 0 \(\w+\) reads tensor \d+, which nothing has written",
    ),
    "written twice": (
        lambda model: setattr(addition(model), "outputs", stem(model).outputs),
        r"operator 3 \(ADD\) writes tensor \d+ once more",
    ),
    "output": (attribute(addition, outputs=ints(-1)), r"operator 3 \(ADD\) writes tensor -1, expected one of 21"),
    "options of another operator": (
        lambda model: attribute(addition, builtinOptionsType=1, builtinOptions=schema.Conv2DOptionsT())(model),
        r"operator 3 \(ADD\) has options of kind 1, expected 11",
    ),
    "no options": (
        attribute(stem, builtinOptionsType=0, builtinOptions=None),
        r"operator 0 \(CONV_2D\) has options of kind 0, expected 1",
    ),
    "stride": (lambda model: attribute(lambda model: stem(model).builtinOptions, strideW=0)(model), "has strideW 0"),
    "activation": (
        lambda model: attribute(lambda model: stem(model).builtinOptions, fusedActivationFunction=77)(model),
        "has fusedActivationFunction 77",
    ),
    "graph input": (lambda model: attribute(graph, inputs=ints(-1))(model), "its inputs name tensor -1"),
    "graph output": (lambda model: attribute(graph, outputs=ints(21))(model), "its outputs name tensor 21"),
    "unwritten": (
        lambda model: model.subgraphs[0].operators.pop(),
        r"output \d+ is written by no operator",
    ),
    "signature": (
        lambda model: attribute(lambda model: model.signatureDefs[0].inputs[0], tensorIndex=77)(model),
        "a signature names tensor 77, expected one of 21",
    ),
    "signature's subgraph": (
        lambda model: attribute(lambda model: model.signatureDefs[0], subgraphIndex=7)(model),
        "a signature of subgraph 7",
    ),
    "metadata": (
        lambda model: attribute(lambda model: model.metadata[0], buffer=777)(model),
        "metadata lies in buffer 777",
    ),
    "no value": (lambda model: model.buffers[0].__setattr__("data", np.ones(4, np.uint8)), "buffer 0 has content"),
}


def graph(model):
    return model.subgraphs[0]


def kernel(model, **fields):
    """Set fields of the kernel of the first operator, 12 values."""
    for name, value in fields.items():
        setattr(tensor(model, stem(model).inputs[1]), name, value)


def cut(model, count: int):
    """Leave the last bytes of a kernel out."""
    buffer = model.buffers[tensor(model, stem(model).inputs[1]).buffer]
    buffer.data = buffer.data[:-count]


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(name, fixtures):
    change, message = DAMAGE[name]
    model = schema.ModelT.InitFromPackedBuf((fixtures / "tiny" / "residual.tflite").read_bytes(), 0)
    change(model)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(DeployError, match=rf"^x\.tflite: damaged \.tflite: .*{message}") as caught:
        FlatGraph(bytes(builder.Output()), "x.tflite")
    assert str(caught.value).isprintable()


def test_a_subgraph_that_is_called_is_there(fixtures):
    model = schema.ModelT.InitFromPackedBuf((fixtures / "odd" / "three_subgraphs.tflite").read_bytes(), 0)
    (branch,) = [op for op in graph(model).operators if isinstance(op.builtinOptions, schema.IfOptionsT)]
    branch.builtinOptions.elseSubgraphIndex = 3
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    with pytest.raises(DeployError, match=r"\(IF\) calls subgraph 3, expected one of 3"):
        FlatGraph(bytes(builder.Output()))
