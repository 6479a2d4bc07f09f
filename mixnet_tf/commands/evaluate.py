"""``mixnet-tf evaluate``: the accuracy of one model."""

import argparse
import dataclasses
from typing import Any

from mixnet_tf.commands.arguments import add_data, add_image_size, add_input, add_split, load_images
from mixnet_tf.commands.output import about_images, load_tensorflow, say, show_about, show_table
from mixnet_tf.data.choices import IMAGE_SIZE
from mixnet_tf.training.run_models import keras_or_lite

HELP = "measure the accuracy of a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .keras or .tflite file, or a run's folder")
    add_data(parser)
    add_split(parser)
    add_image_size(parser, f"the model's, else the data's, else {IMAGE_SIZE}")
    add_input(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.evidence.evaluation import evaluate
    from mixnet_tf.evidence.predictor import check_model

    model = keras_or_lite(args.model)
    check_model(model)
    data = load_images(args.data, args).checked(args.split)
    load_tensorflow()
    result = evaluate(model, data, split=args.split, image_size=args.image_size, input_format=args.input_format)
    return dataclasses.asdict(result) | about_images(data, args.split)


def show(result: dict[str, Any]) -> None:
    show_about(result)
    show_table(("class", "top-1"), [(name, f"{value:.2%}") for name, value in result["per_class"].items()])
    say()
    say(f"{result['model']}: top-1 {result['top1']:.2%}, top-5 {result['top5']:.2%} of {result['count']} images")
