"""``mixnet-tf predict``: what a classifier makes of pictures."""

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mixnet_tf.commands.arguments import add_image_size, add_input, add_overwrite, count
from mixnet_tf.commands.models import to_measure
from mixnet_tf.commands.output import load_tensorflow_for, say
from mixnet_tf.data.choices import IMAGE_SIZE
from mixnet_tf.errors import DataError

HELP = "name what pictures show"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .tflite or .keras file, or a run's folder")
    help_text = "pictures, folders with pictures, or patterns such as 'photos/*.jpg'"
    parser.add_argument("images", metavar="IMAGE", nargs="+", help=help_text)
    help_text = "classes per picture, the likeliest first (default: %(default)s)"
    parser.add_argument("--top", type=count, default=5, metavar="N", help=help_text)
    help_text = "the names of the classes: a text file with one on each line, or 'imagenet' (default: the model's)"
    parser.add_argument("--labels", metavar="F.txt", help=help_text)
    parser.add_argument("--save-plot", type=Path, metavar="F.png", help="draw the pictures with their classes")
    add_image_size(parser, f"the model's, else {IMAGE_SIZE}")
    add_input(parser)
    add_overwrite(parser)


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    from mixnet_tf.evidence.prediction import Predictor, check_pictures_plot, pictures, save_plot
    from mixnet_tf.files import whole_file
    from mixnet_tf.progress.steps import counted

    model, names = to_measure(args.model), pictures(args.images)
    check_pictures_plot(args.save_plot, len(names), overwrite=args.overwrite)
    load_tensorflow_for(model)
    predictor = Predictor(model, image_size=args.image_size, labels=args.labels, input_format=args.input_format)
    shown = counted(names, "look at the pictures", len(names), "picture")
    rows, problems = [], []
    for name in shown:
        try:
            rows.append((name, predictor.predictions(name, args.top)))
        except DataError as error:  # of this picture alone
            problems.append(str(error))
    if problems and not rows:
        _refuse(problems)
    if args.save_plot:
        with whole_file(args.save_plot, overwrite=args.overwrite) as part:
            save_plot(rows, part)
    if problems:
        args.afterwards = functools.partial(_refuse, problems)  # what the others show is printed first
    return [{"image": name, "predictions": [dataclasses.asdict(row) for row in best]} for name, best in rows]


def _refuse(problems: Sequence[str]) -> NoReturn:
    more = len(problems) - 1
    raise DataError(problems[0] + (f", and {more} more picture{'s' if more > 1 else ''}" if more else ""))


def show(result: list[dict[str, Any]]) -> None:
    for picture in result:
        named = ", ".join(f"{row['label']} {row['probability']:.1%}" for row in picture["predictions"])
        say(f"{picture['image']}: {named}")
