"""The picture of the READMEs: published top-1 against instructions per inference on a Cortex-A76.

    python tests/bench/draw_costs.py --arm ARM64 --output tflite/accuracy_and_cost.png

ARM64 is an emulated Cortex-A76, see count_arm.py. The counts are kept in a .json beside the picture; without --arm the
picture is drawn from them. Counting takes about half an hour.
"""

import argparse
import json
import tempfile
from pathlib import Path

import matplotlib
import matplotlib.ticker

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

PUBLISHED = {
    "MixNet-S": (76.0, "timm, mixnet_s.ft_in1k"),
    "MixNet-M": (77.3, "timm, mixnet_m.ft_in1k"),
    "MixNet-L": (79.0, "timm, mixnet_l.ft_in1k"),
    "MixNet-XL": (80.5, "timm, mixnet_xl.ra_in1k"),
    "MobileNetV2": (71.3, "keras.applications"),
    "MobileNetV3-Large": (75.6, "keras.applications"),
    "EfficientNet-B0": (77.1, "keras.applications"),
}
"""ImageNet top-1 of the float network in percent at 224 px, and who published it."""

TYPES = {"float32": "float32", "int8": "int8, at the top-1 published for the float network"}
"""The panels and their titles."""

PLACES = {"EfficientNet-B0": ((-9, 0), "right"), "MobileNetV3-Large": ((0, -13), "center")}
"""Where a name stands that has a MixNet to its right: offset in points, and the side that is aligned."""

BLUE, GREY, INK = "#1f5fbf", "#8a8f98", "#30343b"


def measure(arm: Path) -> list[dict]:
    """Count every network as float32 and int8, the MixNets plain and deployed; return a row for each file."""
    from count_arm import count
    from networks import FOREIGN, foreign, mixnet, write, write_plain

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, (top1, source) in PUBLISHED.items():
            model = foreign(name) if name in FOREIGN else mixnet(name.removeprefix("MixNet-"))
            files = {("plain", dtype): path for dtype, path in write_plain(model, name, folder).items()}
            for dtype in () if name in FOREIGN else TYPES:
                files["deploy", dtype] = write(model, dtype, folder / f"{name}_deploy_{dtype}.tflite")
            counted = count(arm, list(files.values()))
            for (graph, dtype), path in files.items():
                rows.append(
                    {
                        "network": name,
                        "graph": graph,
                        "type": dtype,
                        "million_instructions": round(counted[path], 1),
                        "published_float_top1": top1,
                        "published_by": source,
                    }
                )
    return rows


def draw(rows: list[dict], output: Path) -> None:
    """Draw one panel for each type."""
    colors = {"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY, "xtick.color": INK, "ytick.color": INK}
    plt.rcParams.update(colors | {"font.size": 10})
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.8), sharex=True, sharey=True, layout="constrained")
    for axes, (dtype, title) in zip(panels, TYPES.items(), strict=True):
        costs = {(row["network"], row["graph"]): row["million_instructions"] for row in rows if row["type"] == dtype}
        axes.set_title(title, loc="left", fontweight="bold", fontsize=10)
        _panel(axes, costs)
    panels[0].set_ylabel("ImageNet top-1 published for the float network, %")
    panels[0].set(ylim=(70.6, 81.3), xlim=(19, 3000), xscale="log")
    panels[0].set_xticks(ticks := [25, 50, 100, 200, 400, 800, 1600], [str(tick) for tick in ticks])
    panels[0].xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    figure.supxlabel("million instructions per inference on an emulated Cortex-A76, 224 px (log scale)", fontsize=10)
    figure.legend(handles=_legend(), loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(output, dpi=120, metadata={"Software": None} if output.suffix == ".png" else None)
    plt.close(figure)


def _panel(axes: Axes, costs: dict[tuple[str, str], float]) -> None:
    axes.grid(color="#e4e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for name, (top1, _) in PUBLISHED.items():
        plain, deployed = costs[name, "plain"], costs.get((name, "deploy"))
        if deployed is None:
            axes.plot(plain, top1, "s", color=GREY, markeredgecolor="white", markersize=9, zorder=5)
            offset, side = PLACES.get(name, ((9, 0), "left"))
            _text(axes, name, (plain, top1), offset, ha=side, va="center")
            continue
        arrow = {"arrowstyle": "-|>", "color": BLUE, "shrinkA": 4, "shrinkB": 4}
        axes.annotate("", (deployed, top1), (plain, top1), arrowprops=arrow)
        axes.plot(plain, top1, "o", color=BLUE, markerfacecolor="white", markersize=8, zorder=4)
        axes.plot(deployed, top1, "o", color=BLUE, markersize=8, zorder=4)
        _text(axes, name, (plain, top1), (9, 0), ha="left", va="center")
        middle = ((plain * deployed) ** 0.5, top1)
        _text(axes, f"÷ {plain / deployed:.1f}", middle, (0, 4), ha="center", color=BLUE)


def _text(axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], **style: str) -> None:
    axes.annotate(text, point, offset, textcoords="offset points", bbox={"color": "white", "pad": 0.5}, **style)


def _legend() -> list[Line2D]:
    style = {"linestyle": "none", "marker": "o", "markersize": 8, "color": BLUE}
    return [
        Line2D([], [], **style, markerfacecolor="white", label="MixNet, converted as it is"),
        Line2D([], [], **style, label="MixNet, deploy graph of this package"),
        Line2D([], [], linestyle="none", marker="s", markersize=7, color=GREY, label="other networks"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", type=Path, metavar="ARM64")
    parser.add_argument("--output", type=Path, required=True, metavar="F.png")
    args = parser.parse_args()
    counts = args.output.with_suffix(".json")
    if args.arm:
        counts.write_text(json.dumps(measure(args.arm), indent=2) + "\n")
    draw(json.loads(counts.read_text()), args.output)


if __name__ == "__main__":
    main()
