"""The ledger: sums, memory and cliffs by hand, files from elsewhere, and the emulated core."""

import os
import shutil
from pathlib import Path

import pytest
from bench.counting_marks import count_many
from bench.micro import Micro, Window, chain, depthwise

from mixnet_tf.costs.blocks import blocks_of
from mixnet_tf.costs.ledger import cost_model, ledger
from mixnet_tf.costs.table import CostTable, load_costs
from mixnet_tf.costs.work import Work
from mixnet_tf.litert.flatgraph import FlatGraph

SMALL = CostTable(
    {"core": "abacus", "litert": "0", "graph": 100, "switch": 10, "kernels": {"ADD int8": [5, 0, 2, 1, 1]}}
)


@pytest.fixture
def small(monkeypatch):
    """A table of one kernel: 5 instructions, and 2 per vector."""
    monkeypatch.setattr("mixnet_tf.costs.ledger.load_costs", lambda: SMALL)


def test_the_table_multiplies_factors_with_loops():
    assert SMALL.instructions(Work("ADD int8", (1, 1, 3, 1, 1))) == 5 + 2 * 3 + 1 + 1
    assert SMALL.instructions(Work("MUL int8", (1, 1, 3, 1, 1))) is None
    assert SMALL.instructions(None) is None


def test_every_kernel_of_the_packaged_table_has_factors():
    costs = load_costs()
    assert costs.core == "Cortex-A76" and costs.graph > 0 and len(costs.kernels) > 100
    assert all(any(row) and min(row) >= 0 for row in costs.kernels.values())


def test_the_table_is_that_of_the_litert_that_is_installed():
    """If this fails, LiteRT has moved: run tests/bench/fit_costs.py."""
    import importlib.metadata

    assert importlib.metadata.version("ai-edge-litert") == load_costs().litert


def test_instructions_are_added_up_and_what_is_not_known_is_named(small):
    rows = ledger(FlatGraph(chain("ADD", "ADD", "RELU", "ADD")), outside={2})
    assert [op.instructions for op in rows.ops] == [7, 7, None, 7]
    assert rows.instructions == 100 + 3 * 7 + 10  # one change to LiteRT's own kernel and back
    assert rows.unknown == ("RELU",) and rows.kinds == {"ADD": 21, "RELU": 0}
    assert [op.moved_bytes for op in rows.ops] == [48, 48, 32, 48]  # 16 values each


def test_memory_is_that_of_the_tensors_that_are_still_needed(small):
    graph = Micro()
    x = graph.tensor((1, 100), "int8")
    a = graph.op("LOGISTIC", [x], (1, 100), "int8")
    b = graph.op("LOGISTIC", [a], (1, 100), "int8")
    c = graph.op("ADD", [b, x], (1, 100), "int8")
    rows = ledger(FlatGraph(graph.content([x], [c])))
    assert rows.peak_bytes == 300 and rows.peak_op == 1  # x waits for the ADD


def test_a_cliff_says_what_it_wastes():
    rows = ledger(FlatGraph(depthwise((14, 14), 32, Window((7, 7)), "int8")))
    (cliff,) = rows.cliffs
    assert cliff.kernel == (7, 7) and cliff.pieces == 3
    # counted on the emulated core: 3,576,794 in one op; three of 126,762 - 5,078 and two ADDs of about 15,000 in pieces
    assert cliff.wasted == pytest.approx(3_576_794 - 3 * 121_684 - 2 * 15_000, rel=0.05)
    assert not ledger(FlatGraph(depthwise((14, 14), 32, Window((5, 5)), "int8"))).cliffs


@pytest.mark.parametrize(
    ("names", "blocks"),
    [
        (["m/stem_conv_1/Relu", "m/stage1_block1_expand/x", "m/predictions/MatMul"], ["stem", "stage1_block1", "head"]),
        (["net/Conv1_relu/Relu6", "net/block_1_expand/x", "net/add", "net/block_12_add/Add"],
         ["stem", "block_1", "block_1", "block_12"]),
        (["e/block2a_dwconv/depthwise", "e/block2b_project_conv/x"], ["block2a", "block2b"]),
        (["c/convnext_tiny_stage_0_block_1_gelu/x"], ["stage_0_block_1"]),
        (["a", "b"], ["4x4", "4x4"]),
    ],
)  # fmt: skip
def test_blocks_go_by_names(names, blocks):
    graph = Micro()
    x = y = graph.tensor((1, 4, 4, 8), "float32")
    for name in names:
        y = graph.op("RELU", [y], (1, 4, 4, 8), "float32")
        graph._tensors[y].name = name.encode()
    assert blocks_of(FlatGraph(graph.content([x], [y]))) == blocks


def test_files_from_elsewhere_are_known(fixtures):
    rows = cost_model(fixtures / "ops" / "int8_hard_swish.tflite")
    assert rows.unknown == () and rows.kinds["HARD_SWISH"] > 0
    assert cost_model(fixtures / "ops" / "float32_cumsum.tflite").unknown == ("CUMSUM",)


def test_any_file_has_a_ledger(fixtures):
    for path in sorted((fixtures / "ops").glob("*.tflite")):
        rows = cost_model(path)
        assert rows.instructions > 0 and sum(rows.kinds.values()) == pytest.approx(sum(rows.blocks.values()))


def test_int8_takes_less_than_float32(nano_float32, nano_int8):
    floats, ints = cost_model(nano_float32), cost_model(nano_int8)
    assert floats.unknown == ints.unknown == () and not ints.cliffs
    assert ints.instructions < 0.7 * floats.instructions and ints.peak_bytes < 0.3 * floats.peak_bytes
    assert list(ints.blocks)[:2] == ["stem", "stage1_block1"]


@pytest.mark.slow
def test_a_network_before_it_is_trained():
    from mixnet_tf.costs.network import cost_network

    ledgers = cost_network("mixnet_nano", image_size=32, classes=10)
    assert list(ledgers) == ["float32", "int8"]
    assert all(not ledger.unknown and not ledger.cliffs for ledger in ledgers.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano_float32", "nano_int8"])
def test_the_emulated_core_agrees(name, fixtures):
    arm = Path(os.environ.get("MIXNET_TF_ARM64", "no/such/folder"))
    if not (arm / "python").is_file() or shutil.which("qemu-aarch64") is None:
        pytest.skip("no emulated Arm: tests/bench/arm64.sh FOLDER, and MIXNET_TF_ARM64=FOLDER")
    path = fixtures / f"{name}.tflite"
    assert cost_model(path).instructions == pytest.approx(count_many(arm, [path])[path], rel=0.05)
