"""``mixnet-tf verify``: whether a bundle is whole, and gives its golden outputs here."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mixnet_tf.commands.output import say

HELP = "check a bundle: its files against the manifest, their outputs against the goldens"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="DIR", type=Path, help="a folder that mixnet-tf bundle wrote")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.bundles.verification import verify

    return {"path": str(args.bundle), "models": [dataclasses.asdict(row) for row in verify(args.bundle)]}


def show(result: dict[str, Any]) -> None:
    for row in result["models"]:
        say(
            f"{row['file']}: {row['pictures']} pictures, probabilities differ by {row['difference']:.2g} at most "
            f"(allowed: {row['tolerance']:g})"
        )
    say(f"{result['path']}: whole")
