"""``mixnet-tf inspect``: what a .tflite takes, gives, and costs."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mixnet_tf.commands.arguments import add_overwrite
from mixnet_tf.commands.costs import show_cost
from mixnet_tf.commands.output import say, shape_text, show_table

HELP = "sum up any .tflite, or list its ops: which run fast, and which do not"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="F.tflite", type=Path, help="any .tflite file, or a folder with one")
    help_text = "list every op, with the reason why it is slow"
    parser.add_argument("--ops", dest="show", action="store_const", const=show_ops, default=show, help=help_text)
    help_text = "predict the instructions on a phone's core, by kind and block; with --ops, op by op"
    parser.add_argument("--cost", action="store_true", help=help_text)
    help_text = "draw the predicted instructions of every block, by kind"
    parser.add_argument("--save-plot", type=Path, metavar="F.png", help=help_text)
    add_overwrite(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.evidence.figures import check_plot
    from mixnet_tf.progress.steps import step

    check_plot(args.save_plot, overwrite=args.overwrite)
    with step("load LiteRT"):
        from mixnet_tf.litert.op_table import inspect_model

    table = inspect_model(args.model)
    result = dataclasses.asdict(table)
    if args.cost or args.save_plot:
        from mixnet_tf.costs.ledger import ledger_of

        costs = ledger_of(table)
        result["cost"] = dataclasses.asdict(costs)
        if args.save_plot:
            from mixnet_tf.costs.chart import save_chart
            from mixnet_tf.files import whole_file

            with whole_file(args.save_plot, overwrite=args.overwrite) as part:
                save_chart(costs, part)
    return result


def show(result: dict[str, Any]) -> None:
    _show_summary(result, hint="; --ops says which, and why")
    _show_cost(result)


def show_ops(result: dict[str, Any]) -> None:
    """Print the summary, and a row for each op."""
    _show_summary(result)
    _show_cost(result)
    costs = [op["instructions"] for op in result["cost"]["ops"]] if "cost" in result else None
    rows = [
        (
            f"{op['index']} {op['name']}",
            op["dtype"],
            shape_text(op["outputs"][0]) if op["outputs"] else "",
            "yes" if op["delegated"] else f"NO: {op['reason']}",
            op["cliff"],
            *((_thousands(costs[op["index"]]),) if costs else ()),
        )
        for op in result["ops"]
    ]
    header = ("op", "type", "output", "on XNNPACK", "why slow", *(("1000 instructions",) if costs else ()))
    show_table(header, rows)


def _show_cost(result: dict[str, Any]) -> None:
    if "cost" in result:
        say()
        show_cost(result["cost"])


def _thousands(instructions: float | None) -> str:
    return "unknown" if instructions is None else f"{instructions / 1e3:,.1f}"


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
