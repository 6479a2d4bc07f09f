"""``mixnet-tf list``: the networks and recipes that ship with the package."""

import argparse
from pathlib import Path
from typing import Any

from mixnet_tf.commands.output import say, show_table
from mixnet_tf.data.choices import IMAGE_SIZE

HELP = "list the shipped configurations and recipes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``list`` takes none."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.config import load_config
    from mixnet_tf.counting import count_stages
    from mixnet_tf.quantization.recipe import load_recipe
    from mixnet_tf.schema import shipped_files

    configs = {}
    for name, path in shipped_files("configs").items():
        stages = count_stages(load_config(name), image_size=(IMAGE_SIZE, IMAGE_SIZE), classes=1000)
        parameters, macs = sum(stage.parameters for stage in stages), sum(stage.macs for stage in stages)
        configs[name] = {"description": _first_comment(path), "parameters": parameters, "macs": macs}
    recipes = {name: {"description": load_recipe(name).description} for name in shipped_files("recipes")}
    return {"configs": configs, "recipes": recipes}


def _first_comment(path: Path) -> str:
    """Return what a shipped configuration says of itself: NetsPresso's format has no field for it."""
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def show(result: dict[str, Any]) -> None:
    networks = [
        (name, config["description"], f"{config['parameters']:,}", f"{config['macs'] / 1e6:.1f} M")
        for name, config in result["configs"].items()
    ]
    show_table(("network", "description", "parameters", "MACs"), networks, texts=2)
    say(f"Counted at {IMAGE_SIZE} px, with 1000 classes.")
    recipes = [(name, recipe["description"]) for name, recipe in result["recipes"].items()]
    show_table(("recipe", "description"), recipes, texts=2)
