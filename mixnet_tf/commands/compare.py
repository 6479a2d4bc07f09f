"""``mixnet-tf compare``: two models on the same images."""

import argparse
import dataclasses
from typing import Any

from mixnet_tf.commands.arguments import add_data, add_image_size, add_input, add_split, load_images
from mixnet_tf.commands.models import to_measure
from mixnet_tf.commands.output import (
    about_images,
    load_tensorflow_for,
    say,
    show_about,
    show_outputs,
    show_table,
    snr_text,
)
from mixnet_tf.data.choices import IMAGE_SIZE

HELP = "compare two models on the same images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="the reference: a .keras or .tflite file, or a run's folder")
    parser.add_argument("b", metavar="B", help="the model to compare with it: likewise")
    add_data(parser)
    add_split(parser)
    add_image_size(parser, f"the models', else the data's, else {IMAGE_SIZE}")
    add_input(parser, "--input-a", "A")
    add_input(parser, "--input-b", "B")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.evidence.comparison import compare

    a, b = to_measure(args.a), to_measure(args.b)
    data = load_images(args.data, args).checked(args.split)
    load_tensorflow_for(a, b)
    formats = (args.input_format_a, args.input_format_b)
    result = compare(a, b, data, split=args.split, image_size=args.image_size, input_formats=formats)
    return dataclasses.asdict(result) | about_images(data, args.split)


def show(result: dict[str, Any]) -> None:
    from mixnet_tf.metrics import decibels

    show_about(result)
    if "outputs" in result:
        show_outputs(result["outputs"])
        say(f"{result['count']} images")
        return
    rows = []
    for name in ("a", "b"):
        top1, top5 = result[f"top1_{name}"], result[f"top5_{name}"]["value"]
        interval = f"{top1['low']:.2%} to {top1['high']:.2%}"
        rows.append((result[name], f"{top1['value']:.2%}", interval, f"{top5:.2%}", result[f"only_{name}_right"]))
    show_table(("model", "top-1", "95 % interval", "top-5", "only this one right"), rows)
    interval = f"{result['agreement_low']:.2%} to {result['agreement_high']:.2%}"
    say()
    agreement = f"agreement {result['agreement']:.2%} ({interval})"
    say(f"{result['count']} images: {agreement}, McNemar p = {result['p_value']:.2g}")
    snr = snr_text(result["snr_db"], result["measured"])
    if result["snr_db"] is not None:
        median, low = decibels(result["snr_median_db"]), decibels(result["snr_low_db"])
        snr += f", of the median image {median}, of the worst 5 % at most {low}"
    say(f"{snr}, cosine {result['cosine']:.5f}")
