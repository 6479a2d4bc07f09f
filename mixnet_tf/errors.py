"""The errors a user can cause. The command line prints each as one line and exits with status 2."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator

_PROGRAM, _EXTRAS = "mixnet_tf", ("train", "distributed", "jax")  # as pip calls them
_NAMES = {"keras": "TensorFlow", "tensorflow": "TensorFlow", "sklearn": "scikit-learn"}
"""What a missing module is called where its own name does not say it; TensorFlow runs Keras here."""


class MixNetError(Exception):
    """Base of every error raised for a mistake in the input: what is wrong, where, and what would be right.

    Whatever names the message holds, it is one printable line.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


class ArgumentError(MixNetError, ValueError):
    """An argument that is not what it must be: see ``checks``."""


class ConfigError(MixNetError, ValueError):
    """A configuration that cannot describe a MixNet."""


class DataError(MixNetError, ValueError):
    """A data set that cannot be read or used."""


class WeightsError(MixNetError, ValueError):
    """Weights that cannot be read or do not fit the model."""


class WriteError(MixNetError):
    """A file that the system refuses to write: a full disk, say."""


class DeployError(MixNetError, ValueError):
    """A model or file that cannot be converted, quantized or run on LiteRT."""


class PackageError(MixNetError, ImportError):
    """A package is not installed that only an extra brings, ``train``, ``distributed`` or ``jax``."""


@contextlib.contextmanager
def missing_packages() -> Iterator[None]:
    """Say what to type where a package is missing that an extra brings, ``train`` say; also a decorator.

    Which packages these are stands in the metadata of what is installed, and nowhere else.

    Raises:
        PackageError: in place of Python's error.

    Example:
        >>> with missing_packages():
        ...     raise ModuleNotFoundError(name="keras")
        Traceback (most recent call last):
        mixnet_tf.errors.PackageError: needs TensorFlow, which is not installed; type: pip install "mixnet_tf[train]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = _NAMES.get(error.name or "", error.name or "")
        extra = next((extra for extra in _EXTRAS if _as_pip_spells(name) in _extra_packages(extra)), None)
        if extra is None:
            raise
        command = f'pip install "{_PROGRAM}[{extra}]"'
        raise PackageError(f"needs {name}, which is not installed; type: {command}") from error


def _extra_packages(extra: str) -> set[str]:
    from importlib import metadata  # takes as long to import as the rest of this package

    with contextlib.suppress(metadata.PackageNotFoundError):  # a checkout that is not installed
        matches = (re.match(rf"([\w.-]+).*\bextra == .{extra}\b", text) for text in metadata.requires(_PROGRAM) or ())
        return {_as_pip_spells(match[1]) for match in matches if match}
    return set()


def _as_pip_spells(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def printable(text: object) -> str:
    r"""Return a text on one line: what would move the cursor, color the terminal or hide is written as its escape.

    >>> printable("a\x1b[31m")
    'a\\x1b[31m'
    """
    return "".join(character if character.isprintable() else _escape(character) for character in str(text))


def one_line(text: str) -> str:
    r"""Return a text of several lines as one that is printable.

    >>> one_line("two\n  lines\x07")
    'two lines\\x07'
    """
    return printable(" ".join(text.split()))


def _escape(character: str) -> str:
    byte = ord(character) - 0xDC00  # of a file's name that is no UTF-8
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("unicode_escape").decode("ascii")


def did_you_mean(name: object, candidates: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the candidate that begins with a text or is near to it, or an empty text.

    >>> did_you_mean("swihs", ["relu", "swish"])
    " (did you mean 'swish'?)"
    """
    if not isinstance(name, str) or len(name) > 100:
        return ""
    candidates = list(candidates)
    longer = [text for text in candidates if text.startswith(name)]
    nearest = longer if len(longer) == 1 else difflib.get_close_matches(name, candidates, n=1) or longer
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
