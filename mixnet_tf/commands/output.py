"""What commands print, and which of them need TensorFlow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnet_tf.errors import printable

if TYPE_CHECKING:  # data needs numpy, which --help does without
    from mixnet_tf.data.dataset import ImageData


def load_tensorflow_for(*models: Path) -> None:
    """Import TensorFlow where one of the models is a ``.keras`` file: a ``.tflite`` runs without it."""
    if any(model.suffix == ".keras" for model in models):
        from mixnet_tf.progress.loading import load_tensorflow

        load_tensorflow()


def say(text: str = "") -> None:
    """Print a line; names in it cannot reach the terminal as anything but text."""
    print(printable(text))


def about_images(data: "ImageData", split: str) -> dict[str, Any]:
    """Return what a reader of numbers should know about the images of a split: ``notes`` and ``skipped_images``."""
    notes = []
    if split in data.held_out:
        count = len(data.splits[split])
        notes.append(f"{data.name} has no {split} split: {count} of its images are held out, always the same")
    if split == "test" and data.test_is_val:
        notes.append(f"{data.name} has no test split: its val stands in, which also chose the best epoch in training")
    return {"notes": notes, "skipped_images": data.skipped}


def show_about(result: dict[str, Any]) -> None:
    """Print what `about_images` says."""
    for note in result["notes"]:
        say(f"note: {note}")
    show_skipped(result["skipped_images"])


def show_skipped(paths: Sequence[str]) -> None:
    """Print how many images were left out, and the first of them."""
    if paths:
        say(f"skipped {len(paths)} unreadable images: {', '.join(paths[:5])}{' …' if len(paths) > 5 else ''}")


def show_table(header: Sequence[str], rows: Sequence[Sequence[object]], *, texts: int = 1) -> None:
    """Print aligned columns, the first `texts` to the left and the others to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, title in enumerate(header):
        table.add_column(title, justify="left" if i < texts else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row))
    Console(width=1000, highlight=False, markup=False).print(table)


def show_outputs(outputs: Sequence[Mapping[str, Any]]) -> None:
    """Print the error of every output of a model."""
    from mixnet_tf.metrics import decibels

    ratios = ("snr_db", "snr_median_db", "snr_low_db")
    rows = [
        (output["name"], shape_text(output["shape"]), *(decibels(output[ratio]) for ratio in ratios))
        for output in outputs
    ]
    show_table(("output", "shape", "SNR", "median image", "worst 5 % at most"), rows)


def shape_text(sizes: Sequence[int]) -> str:
    """Return sizes as people write them.

    >>> shape_text([1, 32, 32, 3])
    '1x32x32x3'
    """
    return "x".join(str(size) for size in sizes)


def snr_text(snr_db: float | None, measured: str) -> str:
    """Return the signal-to-noise ratio of what was measured, logits perhaps, in words; None is no difference."""
    return f"equal {measured}" if snr_db is None else f"SNR of the {measured} {snr_db:.1f} dB"
