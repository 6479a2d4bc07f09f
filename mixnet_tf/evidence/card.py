"""The model card of a bundle: what the file is, how good it is, what it takes, and how to check it. Markdown."""

import collections
import dataclasses

import numpy as np

from mixnet_tf.data.pixels import covered_size
from mixnet_tf.evidence.markdown import escaped
from mixnet_tf.evidence.mistakes import worst_confusions
from mixnet_tf.litert.op_table import ModelTable
from mixnet_tf.metrics import ClassScore, in_top5, wilson

_WORST = 5  # classes, and confusions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What a card is written from.

    Attributes:
        table: of the file that ships.
        crop_fraction: the part of a resized picture that it wants to see.
        measured_on: data set and split, in words.
        trained_on: likewise; None where nobody said.
        cost: on a phone's core, in Markdown.
        outputs: of the file, (n, classes).
        labels: of the images, (n,).
        confusion: counts (true class, predicted class).
        classes: the score of each class.
        agreement: share of images for which the float twin gives the same class; None without one.
        twin_outputs: of the float twin, or None.
        twin: its table, or None.
    """

    table: ModelTable
    crop_fraction: float
    measured_on: str
    trained_on: str | None
    cost: str
    outputs: np.ndarray
    labels: np.ndarray
    confusion: np.ndarray
    classes: tuple[ClassScore, ...]
    agreement: float | None
    twin_outputs: np.ndarray | None
    twin: ModelTable | None


def model_card(card: Card) -> str:
    """Return the card."""
    about = card.table.about
    name = about.name if about and about.name else "Image classifier"
    lines = [
        f"# {escaped(name)}",
        "",
        escaped(about.description) if about and about.description else "An image classifier for LiteRT.",
        "",
        *_facts(card),
        "",
        "## Accuracy",
        "",
        *_accuracy(card),
        "",
        *_weak_classes(card),
        "",
        "## What to feed it",
        "",
        *_preprocessing(card),
        "",
        "## Check it",
        "",
        *_commands(),
    ]
    return "\n".join(lines) + "\n"


def _facts(card: Card) -> list[str]:
    table, about = card.table, card.table.about
    outside = collections.Counter(op.name for op in table.outside)
    slow = ", ".join(f"{count} {name}" for name, count in outside.items())
    labels = table.labels or ()
    rows = {
        "version": about and about.version and escaped(about.version),
        "author": about and about.author and escaped(about.author),
        "license": escaped((about and about.license) or "not stated"),
        "trained on": escaped(card.trained_on or "not stated"),
        "classes": f"{len(labels)}: {escaped(', '.join(labels[:20]))}{' …' if len(labels) > 20 else ''}",
        "size": f"{table.size_bytes / 1e6:.2f} MB",
        "operators": f"{len(table.ops)}; outside LiteRT's fast CPU path: {slow or 'none'}; "
        f"without a fast kernel: {len(table.cliffs)}",
        "cost": card.cost,
    }
    return ["| | |", "|---|---|", *(f"| {key} | {text} |" for key, text in rows.items() if text)]


def _accuracy(card: Card) -> list[str]:
    files = [("model.tflite", card.table, card.outputs)]
    if card.twin is not None and card.twin_outputs is not None:
        files.append(("model_float32.tflite", card.twin, card.twin_outputs))
    lines = [
        f"{len(card.labels)} images, {escaped(card.measured_on)}.",
        "",
        "| file | top-1 (95 % interval) | top-5 | size |",
        "|---|---|---|---|",
    ]
    for name, table, outputs in files:
        top1 = wilson(int((outputs.argmax(axis=1) == card.labels).sum()), len(card.labels))
        top5 = in_top5(outputs, card.labels).mean()
        interval = f"{top1.value:.2%} ({top1.low:.2%} to {top1.high:.2%})"
        lines.append(f"| {name} | {interval} | {top5:.2%} | {table.size_bytes / 1e6:.2f} MB |")
    if card.agreement is not None:
        lines += ["", f"Both give the same class for {card.agreement:.2%} of the images."]
    return lines


def _weak_classes(card: Card) -> list[str]:
    seen = [score for score in card.classes if score.recall is not None]
    weakest = sorted(seen, key=lambda score: score.recall or 0.0)[:_WORST]
    names = [score.name for score in card.classes]
    pairs = worst_confusions(card.confusion, names)[:_WORST]
    lines = ["| weakest classes | images | precision | recall |", "|---|---|---|---|"]
    for score in weakest:
        precision = "–" if score.precision is None else f"{score.precision:.1%}"
        lines.append(f"| {escaped(score.name)} | {score.count} | {precision} | {score.recall:.1%} |")
    lines += ["", "| taken for another | images | of the class |", "|---|---|---|"]
    for pair in pairs:
        lines.append(f"| {escaped(pair.true)} → {escaped(pair.predicted)} | {pair.count} | {pair.share:.1%} |")
    return lines if pairs else lines[:-3]


def _preprocessing(card: Card) -> list[str]:
    (taken,), (given,) = card.table.inputs, card.table.outputs
    height, width = taken.shape[1:3]
    cover_height, cover_width = covered_size((height, width), card.crop_fraction)
    return [
        f"- **Picture**: RGB, upright. Resize it (bicubic), keeping its ratio, until it covers {cover_height} x "
        f"{cover_width} (height x width), and cut the central {height} x {width} out of it.",
        f"- **Input**: {taken.dtype} {list(taken.shape)}, batch, height, width, red-green-blue; "
        "0 is black and 255 white. Mean 0 and deviation 1: the file normalizes by itself.",
        f"- **Output**: {given.dtype} {list(given.shape)}, the probability of each class, in the order of "
        "`labels.txt`. The labels are inside the file, too.",
    ]


def _commands() -> list[str]:
    return [
        "`goldens/` holds pictures as raw pixels and, as little-endian float32, what each file makes of them.",
        "`manifest.json` has the SHA-256 of every file, and how far a probability may be off in each runtime.",
        "",
        "```sh",
        "pip install .                          # in a checkout of mixnet_tf; the commands below are for this folder",
        "mixnet-tf verify .                     # every file, every golden",
        "mixnet-tf predict model.tflite photo.jpg",
        "classify --goldens .                   # the C sample, tflite/native of the checkout",
        "adb push model.tflite benchmark_model /data/local/tmp/    # LiteRT's program, and its latency on a phone",
        "adb shell /data/local/tmp/benchmark_model --graph=/data/local/tmp/model.tflite --num_threads=1",
        "```",
    ]
