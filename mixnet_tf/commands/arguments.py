"""Arguments that several commands share, and the types of their values."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mixnet_tf import checks
from mixnet_tf.data.choices import INPUT_FORMATS, ON_BAD_IMAGE, PIXEL_RANGES, SPLITS
from mixnet_tf.errors import ArgumentError

if TYPE_CHECKING:  # data needs numpy, which --help does without
    from mixnet_tf.data.dataset import ImageData
    from mixnet_tf.litert.description import About


def whole(text: str) -> int:
    """Read an integer, of any size."""
    try:
        return int(_ascii(text))
    except ValueError:
        raise argparse.ArgumentTypeError(checks.complaint("", text, "an integer")) from None


def real(text: str) -> float:
    """Read a number, of any size."""
    try:
        return float(_ascii(text))
    except ValueError:
        raise argparse.ArgumentTypeError(checks.complaint("", text, "a number")) from None


def _ascii(text: str) -> str:
    """Return a text without digits of other scripts, which Python would read as numbers."""
    return text if text.isascii() else ""


def integer_from(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return the type of an argument that is an integer from `low` (to `high`)."""
    return lambda text: _within(checks.integer, whole(text), low, high)


def number_from(low: float, high: float | None = None, *, above: bool = False) -> Callable[[str], float]:
    """Return the type of an argument that is a number from `low` (to `high`); with `above`, `low` itself is refused."""
    return lambda text: _within(checks.number, real(text), low, high, above=above)


def _within(check: Callable[..., Any], value: float, *bounds: float | None, **switches: bool) -> Any:
    try:
        return check("", value, *bounds, **switches)
    except ArgumentError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


count = integer_from(1, 1_000_000)
pixels = integer_from(1, 4096)
threads = integer_from(1, 256)
seed = integer_from(0, 2**31 - 1)
fraction = number_from(0, 1)


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a shipped name (see mixnet-tf list) or a .yaml file")


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", required=True, metavar="D", help="'digits', a folder of images or TFRecord shards, or a .npz file"
    )
    add_image_options(parser)


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `load_images` reads."""
    help_text = "stop at an unreadable image, or leave it out (default: %(default)s)"
    parser.add_argument("--on-bad-image", choices=ON_BAD_IMAGE, default="error", help=help_text)
    help_text = "black to white in a .npz file, where its numbers leave that open"
    parser.add_argument("--pixel-range", choices=PIXEL_RANGES, help=help_text)


def load_images(source: str, args: argparse.Namespace) -> "ImageData":
    """Load a data set as the flags of `add_image_options` say."""
    from mixnet_tf.data.sources import load_data
    from mixnet_tf.progress.steps import step

    with step("look at the data"):
        return load_data(source, on_bad_image=args.on_bad_image, pixel_range=args.pixel_range)


def add_split(parser: argparse.ArgumentParser) -> None:
    help_text = "the part of the data to measure on (default: %(default)s)"
    parser.add_argument("--split", choices=SPLITS, default="test", help=help_text)


def add_image_size(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--image-size", "--imgsz", type=pixels, metavar="N", help=f"pixels per side (default: {default})"
    )


def add_input(parser: argparse.ArgumentParser, flag: str = "--input", model: str = "the model") -> None:
    help_text = f"what {model} takes for an image, where it does not tell: 0 to 255, 0 to 1, -1 to 1, or ImageNet's "
    help_text += "mean 0 and deviation 1"
    dest = "input_format" + flag.removeprefix("--input").replace("-", "_")
    parser.add_argument(flag, choices=INPUT_FORMATS, dest=dest, help=help_text)


_ABOUT = {
    "name": "what the model is called",
    "description": "what it is for",
    "version": "its version",
    "author": "who made it",
    "license": "under which license it may be used",
}


def add_about(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `about` reads, and ``--labels``."""
    group = parser.add_argument_group("what the file says of itself")
    help_text = (
        "the names of the classes: a text file with one on each line, or 'imagenet' (default: the model's, else "
    )
    group.add_argument("--labels", metavar="F.txt", help=f"{help_text}the data's)")
    for name, help_text in _ABOUT.items():
        group.add_argument(f"--{name}", metavar="TEXT", dest=f"about_{name}", help=help_text)


def about(args: argparse.Namespace) -> "About | None":
    """Return what the flags of `add_about` say; None for nothing."""
    texts = {key: text for key in _ABOUT if (text := getattr(args, f"about_{key}")) is not None}
    if not texts:
        return None
    from mixnet_tf.litert.description import About

    return About(**texts)


def add_volume(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help="show no progress: results and errors only")
    group.add_argument("--verbose", action="store_true", help="say each step, and what TensorFlow says")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def add_padding(parser: argparse.ArgumentParser) -> None:
    help_text = "padding of convolutions; the authors' weights (tf_mixnet_*) need 'same' (default: %(default)s)"
    parser.add_argument("--padding", choices=("symmetric", "same"), default="symmetric", help=help_text)


def add_graph(parser: argparse.ArgumentParser) -> None:
    help_text = "'deploy' rewrites the model into an equal, faster graph; 'plain' skips that (default: %(default)s)"
    parser.add_argument("--graph", choices=("deploy", "plain"), default="deploy", help=help_text)
