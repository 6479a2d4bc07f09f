"""The command line: ``mixnet-tf COMMAND`` or ``python -m mixnet_tf COMMAND``.

Results go to standard output (``--json`` for programs), progress to standard error. A mistake of the user ends with one
line and exit status 2. TensorFlow is imported by the commands that need it, so ``--help`` answers at once.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mixnet_tf import __version__
from mixnet_tf.commands import deployment, measuring, training
from mixnet_tf.errors import MixNetError

Printer = Callable[[Any], None]


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 2 for a user's mistake, 130 for Ctrl-C.

    Example:
        >>> main(["list", "--json"])                                                             # doctest: +SKIP
        0
    """
    args = _parser().parse_args(argv)
    try:
        result = args.run(args)
        if args.json:
            print(json.dumps(result, indent=2))
        else:
            args.show(result)
        sys.stdout.flush()
    except (MixNetError, OSError) as error:
        return _fail(error, args.command)
    except KeyboardInterrupt:
        hint = "; continue with --resume" if hasattr(args, "resume") else ""
        print(f"\nmixnet-tf {args.command}: interrupted{hint}", file=sys.stderr)
        return 130
    return 0


def _fail(error: Exception, command: str) -> int:
    if isinstance(error, BrokenPipeError):  # `mixnet-tf … | head`: not an error, and nothing more can be printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    message = str(error)
    if isinstance(error, OSError):
        message = f"{error.filename or 'output'}: {error.strerror or error}"
    print(f"mixnet-tf {command}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mixnet-tf", description="MixNet for Keras 3, from NetsPresso's YAML to a fast int8 .tflite.")
    parser.add_argument("--version", action="version", version=f"mixnet-tf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, (help_text, module) in _COMMANDS.items():
        add, run, show = (getattr(module, f"{verb}_{name.replace('-', '_')}") for verb in ("add", "run", "show"))
        command = commands.add_parser(name, help=help_text, description=help_text)
        add(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        command.set_defaults(run=run, show=show)
    return parser


_COMMANDS = {
    "list": ("list the shipped configurations and recipes", training),
    "summary": ("show stages, parameters and MACs", training),
    "import-weights": ("turn timm's or NetsPresso's weights into a .keras model", training),
    "train": ("train a classifier", training),
    "evaluate": ("measure accuracy, and distance from a reference", measuring),
    "compare": ("compare two models on the same images", measuring),
    "export": ("convert a model to .tflite", deployment),
    "quantize": ("quantize so that the accuracy stays", deployment),
    "inspect": ("list the ops of any .tflite, and which of them run fast", deployment),
    "benchmark": ("time .tflite files in turns on LiteRT", deployment),
    "pipeline": ("train, convert, evaluate, time and report", training),
}
"""What each command does, and the module with its ``add_…`` (arguments), ``run_…`` and ``show_…``."""
