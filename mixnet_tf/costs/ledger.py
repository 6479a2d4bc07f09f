"""The ledger of a ``.tflite``: what every operator costs on a Cortex-A76, predicted on any machine.

It counts instructions, one thread. A count is no latency: use it as a ratio of two networks, or of two operators.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable
from pathlib import Path

from mixnet_tf.costs.blocks import blocks_of
from mixnet_tf.costs.cliffs import Waste, wastes
from mixnet_tf.costs.fusion import fused_followers, fused_pads
from mixnet_tf.costs.table import load_costs
from mixnet_tf.costs.work import BYTES, work
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.op_table import ModelTable, inspect_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpCost:
    """What one operator costs.

    Attributes:
        index: its place in the graph.
        name: as in ``CONV_2D``.
        block: the part of the network.
        instructions: predicted; 0 for what is part of another operator, None for what the table does not know.
        moved_bytes: of its inputs and outputs that are computed.
        weight_bytes: of its constants.
    """

    index: int
    name: str
    block: str
    instructions: float | None
    moved_bytes: int
    weight_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ledger:
    """What a file costs per inference; ``dataclasses.asdict`` gives JSON.

    Attributes:
        core: the processor that the instructions are of.
        litert: the version of LiteRT that the table was measured with.
        instructions: predicted for all operators that the table knows.
        unknown: the kinds of operators that it does not know; they are missing in `instructions`.
        kinds: instructions by kind of operator, the dearest first.
        blocks: instructions by block, in graph order.
        peak_bytes: the most that computed tensors take at a time, in the graph's order, the input among them.
        peak_op: the operator that runs then.
        cliffs: the operators without a fast kernel, and what they waste.
        ops: one row per operator.
    """

    core: str
    litert: str
    instructions: float
    unknown: tuple[str, ...]
    kinds: dict[str, float]
    blocks: dict[str, float]
    peak_bytes: int
    peak_op: int
    cliffs: tuple[Waste, ...]
    ops: tuple[OpCost, ...]


def cost_model(path: str | Path) -> Ledger:
    """Predict what a ``.tflite`` costs on a Cortex-A76, op by op.

    Args:
        path: the file, ours or anyone's, or a folder with one. Only its main subgraph is counted.

    Raises:
        DeployError: no such file, not a ``.tflite``, truncated, or one that LiteRT cannot load.

    Example:
        >>> ledger = cost_model("model_int8.tflite")                                             # doctest: +SKIP
        >>> round(ledger.instructions / 1e6, 1), ledger.unknown                                  # doctest: +SKIP
        (68.4, ())
    """
    return ledger_of(inspect_model(path))


def ledger_of(table: ModelTable) -> Ledger:
    """Return the ledger of a file that ``inspect_model`` has looked at."""
    return ledger(FlatGraph.read(table.path), {op.index for op in table.outside})


def ledger(graph: FlatGraph, outside: Collection[int] = ()) -> Ledger:
    """Return the ledger of a graph.

    Args:
        graph: with shapes that do not change.
        outside: indices of the operators that XNNPACK does not run.
    """
    costs, blocks, pads = load_costs(), blocks_of(graph), fused_pads(graph) - set(outside)
    fused = pads | (fused_followers(graph) - set(outside))
    rows = [
        OpCost(
            index=i,
            name=op.name,
            block=blocks[i],
            instructions=0 if i in fused else costs.instructions(work(graph, op, i not in outside)),
            moved_bytes=sum(_bytes(graph, t) for t in (*op.inputs, *op.outputs) if t >= 0 and not graph.is_constant(t)),
            weight_bytes=sum(_bytes(graph, t) for t in op.inputs if t >= 0 and graph.is_constant(t)),
        )
        for i, op in enumerate(graph.ops)
    ]
    peak_bytes, peak_op = _peak(graph, pads)
    kinds = _summed((row.name, row.instructions) for row in rows)
    return Ledger(
        core=costs.core,
        litert=costs.litert,
        instructions=costs.graph + _switches(rows, outside) * costs.switch + sum(row.instructions or 0 for row in rows),
        unknown=tuple(sorted({row.name for row in rows if row.instructions is None})),
        kinds=dict(sorted(kinds.items(), key=lambda pair: -pair[1])),
        blocks=_summed((row.block, row.instructions) for row in rows),
        peak_bytes=peak_bytes,
        peak_op=peak_op,
        cliffs=wastes(graph, costs),
        ops=tuple(rows),
    )


def _switches(rows: Iterable[OpCost], outside: Collection[int]) -> int:
    """Return how often a run of XNNPACK's operators begins again."""
    runs = [row.index not in outside for row in rows]
    starts = sum(b and not a for a, b in itertools.pairwise([False, *runs]))
    return max(0, starts - 1)


def _summed(pairs: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    sums: dict[str, float] = collections.defaultdict(float)
    for name, instructions in pairs:
        sums[name] += instructions or 0
    return dict(sums)


def _bytes(graph: FlatGraph, index: int) -> int:
    tensor = graph.tensor(index)
    return math.prod(tensor.shape) * BYTES.get(tensor.dtype, 0)


def _peak(graph: FlatGraph, fused: Collection[int]) -> tuple[int, int]:
    """Return the most bytes that are needed at a time, and the operator that runs then.

    A tensor is needed from the operator that writes it to the last that reads it; a padded image that is part of a
    convolution is none, but its source is needed in its place.
    """
    last = dict.fromkeys(graph.outputs, len(graph.ops))
    source = {op.outputs[0]: op.inputs[0] for i, op in enumerate(graph.ops) if i in fused}
    for i, op in enumerate(graph.ops):
        if i not in fused:
            last |= {
                index: max(i, last.get(index, 0)) for index in (source.get(t, t) for t in (*op.inputs, *op.outputs))
            }
    alive, peak = set(graph.inputs), (0, 0)
    for i, op in enumerate(graph.ops):
        if i not in fused:
            alive |= set(op.outputs)
            peak = max(peak, (sum(_bytes(graph, index) for index in alive), i), key=lambda pair: pair[0])
        alive = {index for index in alive if last.get(index, -1) > i}
    return peak
