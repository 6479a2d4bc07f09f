"""The errors a user can cause. The command line prints each as one line and exits with status 2."""

import difflib
from collections.abc import Iterable


class MixNetError(Exception):
    """Base of every error raised for a mistake in the input: what is wrong, where, and what would be right."""


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


def did_you_mean(name: object, candidates: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the candidate nearest to a text, or an empty string.

    >>> did_you_mean("swihs", ["relu", "swish"])
    " (did you mean 'swish'?)"
    """
    nearest = difflib.get_close_matches(name, list(candidates), n=1) if isinstance(name, str) else []
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
