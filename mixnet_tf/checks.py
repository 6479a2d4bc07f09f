"""Checks of single values, for the whole package: each returns the value as a plain Python one, or raises one line.

Integers and numbers may be Python's or numpy's, never booleans. This module does not import numpy.
"""

import dataclasses
import math
import reprlib
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

from mixnet_tf.errors import ArgumentError, did_you_mean, one_line

ImageSize = int | tuple[int, int]
"""A square side, or (height, width), in pixels."""

_LONGEST = 80  # characters of a value that a message shows
_SHORT = reprlib.Repr()  # what is shown is computed no further either: lists of lists may be endless
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 4, 2 * _LONGEST, 2 * _LONGEST, 2 * _LONGEST
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = _LONGEST // 3


def shown(value: object) -> str:
    """Return a value as a message shows it: on one line, and not at length.

    >>> shown("text"), shown("x" * 1000)[-8:]
    ("'text'", 'xxxxx...')
    """
    try:
        text = one_line(_SHORT.repr(value))
    except ValueError:  # of an integer with thousands of digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) < _LONGEST else text[: _LONGEST - 3] + "..."


def reason(error: Exception) -> str:
    r"""Return what an error of a library says, on one line and not at length.

    >>> reason(ValueError("bad\nmagic number")), reason(MemoryError())
    ('bad magic number', 'MemoryError')
    """
    return one_line(str(error))[:200] or type(error).__name__


def complaint(name: str, value: object, expected: str) -> str:
    """Return the one line about a value that is not what it must be; a value without a `name` is the whole input.

    >>> complaint("epochs", 0, "an integer from 1")
    'epochs: found 0, expected an integer from 1'
    """
    return f"{name}: " * bool(name) + f"found {shown(value)}, expected {expected}"


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return an integer from `low` (to `high`).

    Raises:
        ArgumentError: it is a boolean, no integer, or out of bounds.

    Example:
        >>> integer("batch_size", 32, 1)
        32
    """
    most = math.inf if high is None else high
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= most:
        raise ArgumentError(complaint(name, value, f"an integer from {low}" + _up_to(high)))
    return int(value)


def number(name: str, value: object, low: float, high: float | None = None, *, above: bool = False) -> float:
    """Return a finite number from `low` (to `high`) as a float; with `above`, `low` itself is refused.

    Raises:
        ArgumentError: it is a boolean, no number, not finite, or out of bounds.

    Example:
        >>> number("learning_rate", 1, 0, above=True)
        1.0
    """
    as_float, most = _finite(value), math.inf if high is None else high
    if as_float is None or not low <= as_float <= most or (above and as_float == low):
        raise ArgumentError(complaint(name, value, f"a number {'above' if above else 'from'} {low}" + _up_to(high)))
    return as_float


def image_size(value: object, name: str = "image_size") -> tuple[int, int]:
    """Return (height, width), in pixels, of a square side or of a (height, width).

    Raises:
        ArgumentError: it is neither, or has no pixels.

    Example:
        >>> image_size(224), image_size((96, 128))
        ((224, 224), (96, 128))
    """
    sizes = tuple(value) if isinstance(value, tuple | list) else (value, value)
    try:
        height, width = (integer(name, size, 1) for size in sizes)
    except ValueError:  # ArgumentError is one; so is a wrong count of sizes
        raise ArgumentError(complaint(name, value, "pixels as an integer or (height, width)")) from None
    return height, width


def boolean(name: str, value: object) -> bool:
    """Return True or False.

    Raises:
        ArgumentError: it is neither.
    """
    if not isinstance(value, bool):
        raise ArgumentError(complaint(name, value, "True or False"))
    return value


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return one of the `allowed` names.

    Raises:
        ArgumentError: it is none of them; names the nearest.

    Example:
        >>> one_of("split", "test", ("train", "val", "test"))
        'test'
    """
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ArgumentError(complaint(name, value, f"one of {', '.join(allowed)}{did_you_mean(value, allowed)}"))
    return value


def check_fields(settings: Any, prefix: str = "") -> None:
    """Check the fields of a frozen dataclass: ints, floats, bools or names; and make their values plain Python ones.

    The metadata of a field holds its bounds, ``low``, ``high`` and ``above``, or the names that are ``allowed``.

    Raises:
        ArgumentError: names the field, after `prefix`.
    """
    by_type: dict[Any, Callable[..., Any]] = {int: integer, float: number, bool: boolean, str: one_of}
    for field in dataclasses.fields(settings):
        bounds = {key: field.metadata[key] for key in ("low", "high", "above", "allowed") if key in field.metadata}
        value = by_type[field.type](f"{prefix}{field.name}", getattr(settings, field.name), **bounds)
        object.__setattr__(settings, field.name, value)


def _up_to(high: float | None) -> str:
    return "" if high is None else f" to {high}"


def _finite(value: object) -> float | None:
    """Return a number as a float, or None where it is no number, or none that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if math.isfinite(as_float) else None
