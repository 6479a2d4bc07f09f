"""The command line: ``mixnet-tf COMMAND`` or ``python -m mixnet_tf COMMAND``.

Results go to standard output (``--json`` for programs), progress to standard error. A mistake of the user ends with one
line and exit status 2. TensorFlow is imported by the commands that need it, so ``--help`` answers at once.
"""

import argparse
import gc
import io
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from mixnet_tf import __version__, checks
from mixnet_tf.checks import shown
from mixnet_tf.commands import (
    benchmark,
    bundle,
    compare,
    evaluate,
    export,
    import_weights,
    inspect,
    list_,
    pipeline,
    predict,
    serve_demo,
    summary,
    train,
    verify,
)
from mixnet_tf.commands.arguments import add_volume
from mixnet_tf.errors import MixNetError, did_you_mean, missing_packages, one_line


class Command(Protocol):
    """What a module in ``mixnet_tf.commands`` has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments of this command alone; ``--json``, ``--quiet`` and ``--verbose`` are added to all."""

    def run(self, args: argparse.Namespace) -> Any:
        """Do the work; return what ``--json`` prints. What is to follow the print is put into ``args.afterwards``."""

    def show(self, result: Any) -> None:
        """Print the result for a reader."""


COMMANDS: dict[str, Command] = {
    "list": list_,
    "summary": summary,
    "import-weights": import_weights,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "export": export,
    "inspect": inspect,
    "predict": predict,
    "benchmark": benchmark,
    "bundle": bundle,
    "verify": verify,
    "pipeline": pipeline,
    "serve-demo": serve_demo,
}


_LONGEST = 2000  # characters of an error: some systems allow names of 4,096


_FLAG = re.compile(r"--?[A-Za-z][^\s=]*")
_CLEAR = "\r\x1b[K"  # what a step shows on a terminal gives way to an error


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, not a long one, and name the nearest flag, command or choice."""

    def __init__(self, **settings: Any):
        super().__init__(**settings, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if "_ARGCOMPLETE" in os.environ:  # a line that is not finished
            return super().parse_known_args(args, namespace)
        self._given = list(sys.argv[1:] if args is None else args)
        self._check_flags()
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"one argument too many: {' '.join(unknown)}")
        return namespace, unknown

    def _check_flags(self) -> None:
        """Refuse a flag that does not exist, before a missing one is missed: it may be that one, misspelt."""
        for text in self._given:
            if text == "--" or (self._subparsers and not text.startswith("-")):
                return  # what follows are no flags, or those of a command
            if (flag := _FLAG.match(text)) and flag[0] not in self._option_string_actions:
                self.error(f"no flag {shown(flag[0])}{did_you_mean(flag[0], self._option_string_actions)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None:
            return
        try:
            checks.one_of("", value, action.choices)
        except MixNetError as error:
            raise argparse.ArgumentError(action, str(error)) from None

    def error(self, message: str) -> NoReturn:
        for value in self._given:
            for text in (repr(value), value) if len(value) > len(shown(value)) else ():
                message = message.replace(text, shown(value))
        self.exit(2, one_line(f"{self.prog}: error: {message}; see {self.prog} --help") + "\n")


def program() -> NoReturn:
    """Run the command of this process, and end it at once: to look through a network's garbage takes seconds."""
    status = main()
    gc.freeze()
    raise SystemExit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 2 for a user's mistake, 130 for Ctrl-C.

    Example:
        >>> main(["summary", "no/such.yaml"])                                                    # doctest: +SKIP
        2
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the terminal or pipe cannot encode is no error
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        import argcomplete

        argcomplete.autocomplete(parser)
    args = parser.parse_args(argv)
    from mixnet_tf.progress.volume import volume

    try:
        with volume(quiet=args.quiet, verbose=args.verbose), missing_packages():
            result = COMMANDS[args.command].run(args)
            if args.json:
                print(json.dumps(result, indent=2))
            else:
                args.show(result)
            sys.stdout.flush()
            args.afterwards()
    except BrokenPipeError:  # `mixnet-tf … | head`: not an error, and nothing more can be printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MixNetError as error:
        return _fail(args.command, str(error))
    except OSError as error:
        return _fail(args.command, f"{error.filename or 'output'}: {error.strerror or error}")
    except MemoryError:
        return _fail(args.command, "memory ran out; free some, or give smaller or fewer images")
    except KeyboardInterrupt:
        hint = "; continue with --resume" if hasattr(args, "resume") else ""
        print(f"\nmixnet-tf {args.command}: interrupted{hint}", file=sys.stderr)
        return 130
    return 0


def _fail(command: str, message: str) -> int:
    line = one_line(message)
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"
    clear = _CLEAR if sys.stderr.isatty() else ""
    print(f"{clear}mixnet-tf {command}: error: {line}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mixnet-tf", description="MixNet for Keras 3, from NetsPresso's YAML to a fast int8 .tflite.")
    parser.add_argument("--version", action="version", version=f"mixnet-tf {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.HELP, description=command.HELP)
        subparser.set_defaults(show=command.show, afterwards=lambda: None)
        command.add_arguments(subparser)
        add_volume(subparser)
        subparser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser
