"""``mixnet-tf summary``: what a network consists of, counted without building it."""

import argparse
import dataclasses
from typing import Any

from mixnet_tf.commands.arguments import add_config, add_image_size, count
from mixnet_tf.commands.costs import show_cost
from mixnet_tf.commands.output import say, shape_text, show_table
from mixnet_tf.data.choices import IMAGE_SIZE
from mixnet_tf.progress.loading import load_tensorflow

HELP = "show stages, parameters and MACs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_image_size(parser, str(IMAGE_SIZE))
    help_text = "number of classes (default: %(default)s)"
    parser.add_argument("--classes", type=count, default=1000, metavar="N", help=help_text)
    help_text = "build the deploy graph, and predict its instructions on a phone's core; needs TensorFlow"
    parser.add_argument("--cost", action="store_true", help=help_text)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.config import load_config
    from mixnet_tf.counting import count_stages

    config, size = load_config(args.config), args.image_size or IMAGE_SIZE
    stages = count_stages(config, image_size=(size, size), classes=args.classes)
    result = {
        "name": config.name,
        "image_size": size,
        "classes": args.classes,
        "parameters": sum(stage.parameters for stage in stages),
        "macs": sum(stage.macs for stage in stages),
        "stages": [dataclasses.asdict(stage) for stage in stages],
    }
    if args.cost:
        load_tensorflow()
        from mixnet_tf.costs.network import cost_network

        ledgers = cost_network(config, image_size=size, classes=args.classes)
        result["costs"] = {dtype: dataclasses.asdict(ledger) for dtype, ledger in ledgers.items()}
    return result


def show(result: dict[str, Any]) -> None:
    say(f"{result['name']} at {result['image_size']} px, {result['classes']} classes")
    say()
    rows = [
        (
            stage["name"],
            stage["blocks"] or "",
            shape_text((stage["height"], stage["width"])),
            stage["channels"],
            " ".join(str(size) for size in stage["kernel_sizes"]),
            f"{stage['parameters']:,}",
            f"{stage['macs'] / 1e6:.2f} M",
        )
        for stage in result["stages"]
    ]
    rows.append(("total", "", "", "", "", f"{result['parameters']:,}", f"{result['macs'] / 1e6:.2f} M"))
    show_table(("stage", "blocks", "output", "channels", "kernels", "parameters", "MACs"), rows)
    say()
    say("MACs of convolutions and fully connected layers; parameters are the trainable ones.")
    for dtype, cost in result.get("costs", {}).items():
        say()
        say(f"deploy graph, {dtype}:")
        show_cost(cost)
