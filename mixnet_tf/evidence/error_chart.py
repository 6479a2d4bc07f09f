"""Where the error of int8 enters, as a picture."""

from pathlib import Path
from typing import Any

from mixnet_tf.evidence.figures import new_figure, save_figure, short
from mixnet_tf.quantization.fallback import EXACT_DB


def save_error_chart(tensors: list[dict[str, Any]], path: Path) -> None:
    """Draw the error of every tensor, in graph order; each block is one wide. What is exact is left out.

    Args:
        tensors: of ``report.json``.
        path: of the picture.
    """
    blocks: dict[str, list[float]] = {}
    for tensor in tensors:
        blocks.setdefault(tensor["block"], []).append(tensor["snr_db"])
    if "" in blocks:  # input, pooling and logits come last
        blocks[""] = blocks.pop("")
    points = [
        (column + (i + 0.5) / len(ratios), ratio)
        for column, ratios in enumerate(blocks.values())
        for i, ratio in enumerate(ratios)
        if ratio < EXACT_DB
    ]
    figure, axes = new_figure(11, 4)
    axes.plot([x for x, _ in points], [ratio for _, ratio in points], ".", markersize=3)
    axes.set_xticks(
        range(len(blocks)), [short(block) or "other" for block in blocks], rotation=90, fontsize=7, ha="left"
    )
    axes.grid(axis="x", linewidth=0.5)
    axes.set(ylabel="SNR in dB, int8 against float", title="error by tensor, in graph order")
    save_figure(figure, path)
