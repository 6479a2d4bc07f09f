"""``mixnet-tf export``: from a model and a recipe to a .tflite."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mixnet_tf.commands.arguments import (
    about,
    add_about,
    add_graph,
    add_image_options,
    add_image_size,
    add_input,
    add_overwrite,
    count,
    fraction,
    load_images,
    seed,
)
from mixnet_tf.commands.output import say, show_about, show_outputs
from mixnet_tf.data.choices import CALIBRATION_IMAGES, SCORES
from mixnet_tf.progress.loading import load_tensorflow
from mixnet_tf.training.run_models import keras_or_lite

HELP = "convert a model to .tflite, in float or in int8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    help_text = "a .keras file, a run's folder, or a float32 .tflite from anywhere"
    parser.add_argument("model", metavar="MODEL", type=Path, help=help_text)
    help_text = "how to make the file: a shipped name (see mixnet-tf list) or a .yaml file"
    parser.add_argument("--recipe", default="mobile", metavar="R", help=f"{help_text} (default: %(default)s)")
    parser.add_argument("--output", required=True, type=Path, metavar="F.tflite", help="the file to write")
    help_text = "real images for int8: 'digits', a folder or a .npz file; its training split is used"
    parser.add_argument("--data", metavar="D", help=help_text)
    help_text = "number of calibration images (default: %(default)s)"
    parser.add_argument("--images", type=count, default=CALIBRATION_IMAGES, metavar="N", help=help_text)
    help_text = "seed that chooses the calibration images (default: %(default)s)"
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help=help_text)
    add_graph(parser)
    help_text = (
        "keep blocks in float32, the best first, until this share of top-1 classes agrees (default: the recipe's)"
    )
    parser.add_argument("--min-agreement", type=fraction, metavar="X", help=help_text)
    help_text = "what a classifier's file gives (default: the recipe's, or what the model ends in)"
    parser.add_argument("--scores", choices=SCORES, help=help_text)
    add_about(parser)
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a report on the int8 error into DIR")
    add_image_options(parser)
    add_image_size(parser, "the model's own")
    add_input(parser)
    add_overwrite(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.quantization.recipe import load_recipe

    model, recipe = keras_or_lite(args.model), load_recipe(args.recipe)
    data = load_images(args.data, args) if args.data else None
    load_tensorflow()
    from mixnet_tf.exporting import export

    exported = export(
        model,
        args.output,
        recipe=recipe,
        data=data,
        graph=args.graph,
        image_size=args.image_size,
        images=args.images,
        seed=args.seed,
        min_agreement=args.min_agreement,
        scores=args.scores,
        labels=args.labels,
        about=about(args),
        input_format=args.input_format,
        report=args.report,
        overwrite=args.overwrite,
    )
    return dataclasses.asdict(exported)


def show(result: dict[str, Any]) -> None:
    show_about(result)
    if fallback := result["fallback"]:
        say(
            f"blocks kept in float32: {', '.join(fallback['blocks']) or 'none'}; {fallback['agreement']:.2%} of "
            f"{fallback['images']} validation images agree; size {fallback['size_ratio']:.2f} and latency "
            f"{fallback['latency_ratio']:.2f} of the file all in int8"
        )
    if len(result["outputs"]) > 1 or any(len(output["shape"]) > 1 for output in result["outputs"]):
        show_outputs(result["outputs"])
    say(f"{result['path']}: {result['size_bytes'] / 1e6:.2f} MB, recipe {result['recipe']['name']}")
