"""Arguments that several commands share, and the types of their values."""

import argparse
import math


def count(text: str, most: int = 1_000_000) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= most:
        raise argparse.ArgumentTypeError(f"found {text[:40]!r}, expected a whole number from 1 to {most}")
    return value


def pixels(text: str) -> int:
    return count(text, most=4096)


def threads(text: str) -> int:
    return count(text, most=256)


def real(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"found {text[:40]!r}, expected a number from 0 to 1000000")
    return value


def fraction(text: str) -> float:
    value = real(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a fraction from 0 to 1")
    return value


def seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 0")
    return int(text)


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a shipped name (see mixnet-tf list) or a .yaml file")


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="D", help="'digits', a folder of images, or a .npz file")
    add_bad_images(parser)


def add_bad_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on-bad-image", choices=("error", "skip"), default="error", help="default: %(default)s")


def add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: %(default)s")


def add_image_size(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--image-size", type=pixels, metavar="N", help=f"pixels of a side (default: {default})")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def add_padding(parser: argparse.ArgumentParser) -> None:
    help_text = "same for the authors' own weights, tf_mixnet_* (default: %(default)s)"
    parser.add_argument("--padding", choices=("symmetric", "same"), default="symmetric", help=help_text)


def add_graph(parser: argparse.ArgumentParser) -> None:
    help_text = "the fast rewritten graph, or the model converted as it is (default: %(default)s)"
    parser.add_argument("--graph", choices=("deploy", "plain"), default="deploy", help=help_text)
