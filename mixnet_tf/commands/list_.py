"""``mixnet-tf list``: the networks and recipes that ship with the package."""

import argparse
from typing import Any

from mixnet_tf.commands.output import say, show_table
from mixnet_tf.data.choices import IMAGE_SIZE

HELP = "list the shipped configurations and recipes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``list`` takes none."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.config import load_config
    from mixnet_tf.counting import count_stages
    from mixnet_tf.schema import shipped_files

    configs = {}
    for name in shipped_files("configs"):
        stages = count_stages(load_config(name), image_size=(IMAGE_SIZE, IMAGE_SIZE), classes=1000)
        parameters, macs = sum(stage.parameters for stage in stages), sum(stage.macs for stage in stages)
        configs[name] = {"parameters": parameters, "macs": macs}
    return {"configs": configs, "recipes": list(shipped_files("recipes"))}


def show(result: dict[str, Any]) -> None:
    rows = [
        (name, f"{counts['parameters']:,}", f"{counts['macs'] / 1e6:.1f} M")
        for name, counts in result["configs"].items()
    ]
    show_table(("config", "parameters", f"MACs at {IMAGE_SIZE} px, 1000 classes"), rows)
    say()
    say(f"recipes: {', '.join(result['recipes'])}")
