"""How a ledger of costs is printed: what ``inspect --cost`` and ``summary --cost`` share."""

from collections.abc import Mapping
from typing import Any

from mixnet_tf.commands.output import say, show_table


def show_cost(cost: Mapping[str, Any]) -> None:
    """Print a ledger: totals, kinds, blocks, cliffs."""
    from mixnet_tf.metrics import mebibytes

    say(
        f"{cost['instructions'] / 1e6:.1f} M instructions per image, predicted: {cost['core']}, one thread, "
        f"LiteRT {cost['litert']}. No latency: use it as a ratio."
    )
    if cost["unknown"]:
        count = sum(op["instructions"] is None for op in cost["ops"])
        say(f"not known, and not in any sum: {', '.join(cost['unknown'])} ({count} ops)")
    say(f"{mebibytes(cost['peak_bytes'])} MiB of activations at the most, at op {cost['peak_op']}")
    for cliff in cost["cliffs"]:
        height, width = cliff["kernel"]
        say(f"op {cliff['index']}: {height}x{width} depthwise wastes {cliff['wasted'] / 1e6:.1f} M. {cliff['cure']}")
    show_shares("kind", cost["kinds"])
    show_shares("block", cost["blocks"])


def show_shares(title: str, sums: Mapping[str, float]) -> None:
    """Print instructions by name, with their shares."""
    total = sum(sums.values()) or 1
    rows = [(name, f"{number / 1e6:.2f}", f"{number / total:.1%}") for name, number in sums.items()]
    show_table((title, "M instructions", "share"), rows)
