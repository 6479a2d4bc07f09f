"""What commands print, and how they load TensorFlow quietly."""

import os
from collections.abc import Sequence


def load_tensorflow() -> None:
    """Import TensorFlow without its start-up messages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from mixnet_tf.quiet import quiet

    with quiet():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401


def show_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns, the first to the left and the others to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, title in enumerate(header):
        table.add_column(title, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=1000, highlight=False, markup=False).print(table)


def shape_text(sizes: Sequence[int]) -> str:
    return "x".join(str(size) for size in sizes)


def show_skipped(paths: Sequence[str]) -> None:
    if paths:
        print(f"skipped {len(paths)} unreadable images: {', '.join(paths[:5])}{' …' if len(paths) > 5 else ''}")


def show_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}")
