"""``mixnet-tf bundle``: a folder to hand over."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mixnet_tf.commands.arguments import add_data, add_overwrite, add_split, load_images
from mixnet_tf.commands.output import about_images, say, show_about
from mixnet_tf.training.run_models import lite

HELP = "put a .tflite, its labels, a model card and golden outputs into a folder to hand over"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="F.tflite", type=Path, help="a file of recipe mobile")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the folder to write")
    parser.add_argument("--float32", type=Path, metavar="F.tflite", help="its float32 twin, of recipe mobile_float32")
    parser.add_argument("--trained-on", metavar="TEXT", help="what the card says about the training data")
    add_data(parser)
    add_split(parser)
    add_overwrite(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.bundles.making import bundle

    data = load_images(args.data, args)
    made = bundle(
        lite(args.model),
        args.output,
        data=data,
        float32=args.float32,
        split=args.split,
        trained_on=args.trained_on,
        overwrite=args.overwrite,
    )
    return dataclasses.asdict(made) | about_images(data, args.split)


def show(result: dict[str, Any]) -> None:
    show_about(result)
    files, size = len(result["files"]), result["size_bytes"] / 1e6
    say(f"{result['path']}: {files} files, {size:.2f} MB, top-1 {result['top1']:.2%}; `mixnet-tf verify` checks it")
