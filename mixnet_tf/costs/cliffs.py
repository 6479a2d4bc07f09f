"""Operators without a fast kernel: what they waste, and how to lose them."""

import dataclasses
import math

from mixnet_tf.costs.table import CostTable
from mixnet_tf.costs.work import Work, depthwise_work, vector_work, work
from mixnet_tf.deploy.kernels import MAX_TAPS, plan
from mixnet_tf.litert.flatgraph import FlatGraph, Op


@dataclasses.dataclass(frozen=True, kw_only=True)
class Waste:
    """An operator that would cost less in another form.

    Attributes:
        index: its place in the graph.
        kernel: height and width.
        wasted: instructions, predicted, above those of the form in pieces.
        pieces: of at most 25 taps, whose sum it is; the deploy graph of ``export`` has them.
    """

    index: int
    kernel: tuple[int, int]
    wasted: float
    pieces: int


def wastes(graph: FlatGraph, costs: CostTable) -> tuple[Waste, ...]:
    """Return the depthwise convolutions of more than 25 taps, and what they waste."""
    rows = (_waste(graph, i, op, costs) for i, op in enumerate(graph.ops))
    return tuple(row for row in rows if row is not None)


def _waste(graph: FlatGraph, index: int, op: Op, costs: CostTable) -> Waste | None:
    job = work(graph, op)
    if job is None or not job.kernel.startswith(f"DEPTHWISE_CONV_2D above {MAX_TAPS} taps"):
        return None
    dtype, shape = graph.tensor(op.outputs[0]).dtype, graph.shape(op.outputs[0])
    height, width = graph.shape(op.inputs[1])[1:3]
    pieces = plan(height, width, max(op.options.strideH, op.options.strideW))
    jobs: list[Work] = [depthwise_work(shape, piece.taps, dtype) for piece in pieces]
    jobs += [vector_work("ADD", math.prod(shape), dtype)] * (len(pieces) - 1)
    dear, cheap = costs.instructions(job), [costs.instructions(piece) for piece in jobs]
    if dear is None or None in cheap:
        return None
    return Waste(
        index=index,
        kernel=(height, width),
        wasted=dear - sum(number for number in cheap if number is not None),
        pieces=len(pieces),
    )
