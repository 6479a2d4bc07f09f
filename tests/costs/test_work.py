"""What an operator has to do, against loops counted by hand."""

import numpy as np
import pytest
from bench.micro import Micro, Window, binary, conv, dense, depthwise, joined, parted, unary, with_numbers

from mixnet_tf.costs.fusion import fused_followers, fused_pads
from mixnet_tf.costs.work import Work, work
from mixnet_tf.litert.flatgraph import FlatGraph


def work_of(content: bytes, delegated: bool = True) -> Work | None:
    graph = FlatGraph(content)
    return work(graph, graph.ops[-1], delegated)


CASES = {
    # 25 rows are 5 tiles of 6; 24 outputs 3 of 8; each runs 16 inputs
    "float32_1x1": (conv((5, 5), (16, 24), Window(), "float32"), "CONV_2D 1x1, float32", (1, 5, 15, 240)),
    # 25 rows are 7 tiles of 4; 24 outputs 2 of 16; 18 inputs 5 of 4
    "int8_1x1": (conv((5, 5), (18, 24), Window(), "int8"), "CONV_2D 1x1, int8", (1, 7, 14, 70)),
    # 20 outputs do not fill tiles of 8: 10 tiles of 4 x 2
    "narrow": (conv((5, 5), (16, 20), Window(), "float32"), "CONV_2D 1x1, 2 columns, float32", (1, 7, 70, 1120)),
    "one_row": (conv((1, 1), (16, 24), Window(), "float32"), "CONV_2D 1x1, one row, float32", (1, 1, 3, 48)),
    # each of two groups: 3 tiles of 4 rows, 1 of 16 outputs, 2 of 4 inputs
    "groups": (conv((3, 3), (16, 32), Window(), "int8", groups=2), "CONV_2D 1x1, int8", (1, 6, 6, 12)),
    # 3 x 3 outputs, 9 taps
    "window": (conv((6, 6), (8, 16), Window((3, 3), 2), "int8"), "CONV_2D with a window, int8", (1, 3, 3, 27, 54)),
    # 16 pixels in 4 rows; 13 channels are 8, 4 and a rest
    "depthwise": (depthwise((4, 4), 13, Window((3, 3)), "float32"), "DEPTHWISE_CONV_2D of 9 taps, float32",
                  (1, 4, 16, 16, 16, 16)),
    "dilated": (depthwise((4, 4), 16, Window((5, 5), 1, (2, 2)), "int8"), "DEPTHWISE_CONV_2D of 25 taps, int8",
                (1, 4, 16, 16, 0, 0)),
    # a product for each of 8 channels, of 49 pixels in tiles of 4
    "cliff": (depthwise((7, 7), 8, Window((7, 7)), "int8"), "DEPTHWISE_CONV_2D above 25 taps, int8",
              (1, 104, 104 * 49)),
    "dense": (dense(1, (64, 10), "int8"), "FULLY_CONNECTED, one row, int8", (1, 1, 1, 16)),
    "add": (binary("ADD", (1, 2, 2, 9), (1, 2, 2, 9), "int8"), "ADD int8", (1, 1, 2, 0, 1)),
    "gate": (binary("MUL", (1, 3, 3, 20), (1, 1, 1, 20), "int8"), "MUL with a vector, int8", (1, 9, 9, 0, 9)),
    "number": (binary("MUL", (1, 3, 3, 20), (), "int8", constant=True), "MUL with a number, int8", (1, 1, 11, 0, 1)),
    "per_row": (binary("MUL", (1, 3, 3, 20), (1, 3, 3, 1), "float32"), "MUL with a number per row, float32",
                (1, 9, 18, 9, 0)),
    "relu": (binary("ADD", (8,), (8,), "float32", clamped=True), "ADD clamped, float32", (1, 1, 1, 0, 0)),
    "unary": (unary("LOGISTIC", (1, 3, 3, 4), ("int8", "int8")), "LOGISTIC int8", (1, 36)),
    "quantize": (unary("QUANTIZE", (1, 8), ("float32", "int8")), "QUANTIZE float32 to int8", (1, 8)),
    # rows of 8 bytes, which are no multiple of 16
    "join": (joined([(1, 3, 3, 8)] * 2, "int8"), "CONCATENATION int8", (1, 2, 18, 18, 0)),
    "split": (parted((1, 3, 3, 64), 2, "int8"), "SPLIT int8", (1, 2, 18, 0, 18)),
    "reshape": (with_numbers("RESHAPE", (1, 4, 8), (1, 32), [[1, 32]], "float32"), "RESHAPE", (1, 4)),
    # 3 x 3 pixels become 5 x 5: 9 are copied, 6 are beside them, 10 above and below; 8 bytes each
    "pad": (with_numbers("PAD", (1, 3, 3, 8), (1, 5, 5, 8), [[[0, 0], [1, 1], [1, 1], [0, 0]]], "int8"), "PAD int8",
            (1, 9, 6, 10, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_loops_are_those_counted_by_hand(name):
    content, kernel, counts = CASES[name]
    assert work_of(content) == Work(kernel, counts)


def test_what_is_cut_out_is_copied_in_the_longest_runs():
    """Rows of an image are one run; columns one per row; channels one per pixel."""
    shape, results = (1, 4, 6, 8), [(1, 3, 6, 8), (1, 4, 5, 8), (1, 4, 6, 4)]
    contents = [with_numbers("SLICE", shape, result, [[0] * 4, result], "float32") for result in results]
    assert [work_of(content).counts[2] for content in contents] == [1, 4, 24]


def test_an_operator_that_is_not_known_has_no_work():
    assert work_of(unary("ROUND", (1, 8), ("float32", "float32"))) is None


def test_a_type_that_is_not_known_has_no_work():
    assert work_of(binary("ADD", (1, 8), (1, 8), "int32")) is None


def test_what_litert_runs_itself_is_another_kernel():
    content = unary("HARD_SWISH", (1, 16), ("int8", "int8"))
    assert work_of(content, delegated=False) == Work("HARD_SWISH int8, LiteRT's own kernel", (1, 16))
    content = joined([(1, 3, 3, 8)] * 6, "int8")
    assert work_of(content, delegated=False) == Work("CONCATENATION int8, LiteRT's own kernel", (1, 6, 54, 54, 0))


def padded(readers: int) -> FlatGraph:
    """A PAD and convolutions that read it."""
    from ai_edge_litert import schema_py_generated as schema

    graph = Micro()
    x = graph.tensor((1, 4, 4, 8), "float32")
    wide = graph.op("PAD", [x, graph.numbers([[0, 0], [1, 1], [1, 1], [0, 0]])], (1, 6, 6, 8), "float32")
    outputs = []
    for _ in range(readers):
        options = Window((3, 3), same=False).options(schema.Conv2DOptionsT())
        weights = [graph.weights((8, 3, 3, 8), "float32"), graph.bias(8, "float32")]
        outputs.append(graph.op("CONV_2D", [wide, *weights], (1, 4, 4, 8), "float32", options))
    return FlatGraph(graph.content([x], outputs))


def test_a_pad_with_one_convolution_is_part_of_it():
    assert fused_pads(padded(1)) == {0}
    assert fused_pads(padded(2)) == set()


def test_a_pad_of_the_output_stays():
    graph = FlatGraph(CASES["pad"][0])
    assert np.array_equal(graph.constant(graph.ops[0].inputs[1])[1], [1, 1]) and fused_pads(graph) == set()


@pytest.mark.parametrize(
    ("names", "dtype", "fused"),
    [
        (("LOGISTIC", "MUL"), "int8", {1}),
        (("LOGISTIC", "MUL"), "float32", set()),
        (("TANH", "ADD"), "int8", {1}),
        (("RESHAPE", "MUL"), "int8", set()),
    ],
)
def test_a_function_of_one_int8_value_is_one_table(names, dtype, fused):
    """Counted on the emulated core: x * sigmoid(x) of 4,096 values takes 2,581 in int8, and sigmoid alone 2,539."""
    graph, shape = Micro(), (1, 1, 1, 64)
    x = graph.tensor(shape, dtype)
    inner = graph.op(names[0], [x], shape, dtype)
    outer = graph.op(names[1], [x, inner], shape, dtype)
    assert fused_followers(FlatGraph(graph.content([x], [outer]))) == fused
    assert fused_followers(FlatGraph(graph.content([x], [outer, inner]))) == set()  # somebody wants the inner one


@pytest.mark.parametrize(("dtype", "fused"), [("float32", {1}), ("int8", set())])
def test_a_clamp_is_part_of_a_float_convolution(dtype, fused):
    """Counted on the emulated core: 20,935 with and without RELU6 in float32; 8,070 and 75,998 in int8."""
    from ai_edge_litert import schema_py_generated as schema

    graph, shape = Micro(), (1, 7, 7, 32)
    x = graph.tensor(shape, dtype)
    inputs = [x, graph.weights((32, 1, 1, 32), dtype), graph.bias(32, dtype)]
    y = graph.op("CONV_2D", inputs, shape, dtype, Window().options(schema.Conv2DOptionsT()))
    assert fused_followers(FlatGraph(graph.content([x], [graph.op("RELU6", [y], shape, dtype)]))) == fused
