"""How a ledger of costs is printed: what ``inspect --cost`` and ``summary --cost`` share."""

from collections.abc import Mapping
from typing import Any

from mixnet_tf.commands.output import say, show_table

CURE = "Export the .keras file: its deploy graph has each as a sum of small ones."


def show_cost(cost: Mapping[str, Any]) -> None:
    """Print a ledger: totals, kinds, blocks, cliffs."""
    from mixnet_tf.deploy.kernels import MAX_TAPS
    from mixnet_tf.metrics import mebibytes

    say(
        f"{cost['instructions'] / 1e6:.1f} M instructions per image, predicted: {cost['core']}, one thread, "
        f"LiteRT {cost['litert']}. No latency: use it as a ratio."
    )
    if cost["unknown"]:
        count = sum(op["instructions"] is None for op in cost["ops"])
        say(f"not known, and in no sum: {', '.join(cost['unknown'])} ({count} of {len(cost['ops'])} ops)")
    say(f"{mebibytes(cost['peak_bytes'])} MiB of activations at the most, at op {cost['peak_op']}")
    if cost["cliffs"]:
        wasted = sum(cliff["wasted"] for cliff in cost["cliffs"])
        places = ", ".join(str(cliff["index"]) for cliff in cost["cliffs"])
        say(f"depthwise kernels above {MAX_TAPS} taps waste {wasted / 1e6:.1f} M of them (ops {places}). {CURE}")
    show_shares("kind", cost["kinds"])
    show_shares("block", cost["blocks"])


def show_shares(title: str, sums: Mapping[str, float]) -> None:
    """Print instructions by name, with their shares."""
    total = sum(sums.values()) or 1
    rows = [(name, f"{number / 1e6:.2f}", f"{number / total:.1%}") for name, number in sums.items()]
    show_table((title, "M instructions", "share"), rows)
