"""The ledger as a picture: a bar per block, stacked by kind of operator."""

import collections
from pathlib import Path

from mixnet_tf.costs.ledger import Ledger
from mixnet_tf.evidence.figures import new_figure, save_figure, short

_SHOWN = 7  # kinds with a color of their own
_OTHERS = "others"


def save_chart(ledger: Ledger, path: Path) -> None:
    """Draw what each block costs, by kind of operator.

    Args:
        ledger: of a file.
        path: of the plot to write; its suffix says in which format.
    """
    kinds = [*list(ledger.kinds)[:_SHOWN], *([_OTHERS] if len(ledger.kinds) > _SHOWN else [])]
    sums: dict[str, dict[str, float]] = {kind: collections.defaultdict(float) for kind in kinds}
    for op in ledger.ops:
        sums[op.name if op.name in sums else _OTHERS][op.block] += (op.instructions or 0) / 1e6
    blocks = list(ledger.blocks)
    figure, axes = new_figure(9, 1.6 + 0.28 * len(blocks))
    left = [0.0] * len(blocks)
    for kind, row in sums.items():
        widths = [row[block] for block in blocks]
        axes.barh(range(len(blocks)), widths, left=left, label=kind)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(blocks)), [short(block) for block in blocks])
    axes.invert_yaxis()
    axes.margins(x=0.02)
    axes.set(
        xlabel=f"million instructions per image, predicted for a {ledger.core}; {ledger.instructions / 1e6:.1f} in all"
    )
    axes.legend(frameon=False, loc="best")
    save_figure(figure, path)
