"""``mixnet-tf inspect``: what a .tflite takes, gives, and costs."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mixnet_tf.commands.output import say, shape_text, show_table

HELP = "sum up any .tflite, or list its ops: which run fast, and which do not"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="F.tflite", type=Path, help="any .tflite file, or a folder with one")
    help_text = "list every op, with the reason why it is slow"
    parser.add_argument("--ops", dest="show", action="store_const", const=show_ops, default=show, help=help_text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.progress.steps import step

    with step("load LiteRT"):
        from mixnet_tf.litert.op_table import inspect_model

    return dataclasses.asdict(inspect_model(args.model))


def show(result: dict[str, Any]) -> None:
    _show_summary(result, hint="; --ops says which, and why")


def show_ops(result: dict[str, Any]) -> None:
    """Print the summary, and a row for each op."""
    _show_summary(result)
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
    show_table(("op", "type", "output", "on XNNPACK", "why slow"), rows)


def _show_summary(result: dict[str, Any], hint: str = "") -> None:
    say(f"{result['path']}: {result['size_bytes'] / 1e6:.2f} MB")
    for kind in ("input", "output"):
        for tensor in result[f"{kind}s"]:
            say(f"{kind} {tensor['name']}: {tensor['dtype']} {shape_text(tensor['shape'])}{_scale_text(tensor)}")
    known = {"takes": result["input_format"], "gives": result["scores"], **(result["about"] or {})}
    if result["labels"] is not None:
        known["labels"] = f"{len(result['labels'])} inside: {', '.join(result['labels'][:5])}" + (
            " …" if len(result["labels"]) > 5 else ""
        )
    for key, text in known.items():
        if text is not None:
            say(f"{key}: {text}")
    delegated = [op for op in result["ops"] if op["delegated"]]
    slow, outside = sum(bool(op["cliff"]) for op in delegated), len(result["ops"]) - len(delegated)
    say(
        f"{len(result['ops'])} ops: {len(delegated)} on XNNPACK, {slow} of them slow, and {outside} outside it"
        + (hint if slow or outside else "")
    )


def _scale_text(tensor: dict[str, Any]) -> str:
    scale = tensor["scale"]
    return "" if scale is None else f", scale {scale:.6g}, zero point {tensor['zero_point']}"
