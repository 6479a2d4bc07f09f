"""``mixnet-tf inspect``: the ops of a .tflite."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mixnet_tf.commands.output import say, shape_text, show_table

HELP = "list the ops of any .tflite, and which of them run fast"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="F.tflite", type=Path, help="any .tflite file")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.litert.op_table import inspect_model

    return dataclasses.asdict(inspect_model(args.model)) | {"path": str(args.model)}


def show(result: dict[str, Any]) -> None:
    rows = [
        (
            f"{op['index']} {op['name']}",
            op["dtype"],
            shape_text(op["outputs"][0]) if op["outputs"] else "",
            "yes" if op["delegated"] else f"NO: {op['reason']}",
            op["cliff"],
        )
        for op in result["ops"]
    ]
    show_table(("op", "type", "output", "delegated", "performance cliff"), rows)
    say()
    for kind in ("input", "output"):
        for tensor in result[f"{kind}s"]:
            say(f"{kind} {tensor['name']}: {tensor['dtype']} {shape_text(tensor['shape'])}{_scale_text(tensor)}")
    outside = sum(not op["delegated"] for op in result["ops"])
    cliffs = sum(bool(op["cliff"]) for op in result["ops"])
    say(
        f"{result['path']}: {result['size_bytes'] / 1e6:.2f} MB, {len(result['ops'])} ops, "
        f"{outside} outside the delegate, {cliffs} performance cliffs"
    )


def _scale_text(tensor: dict[str, Any]) -> str:
    scale = tensor["scale"]
    return "" if scale is None else f", scale {scale:.6g}, zero point {tensor['zero_point']}"
