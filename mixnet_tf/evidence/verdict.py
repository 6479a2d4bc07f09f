"""What to ship, in a sentence. The first row of a table that holds is the case; another table has its words."""

import dataclasses
import math
from collections.abc import Callable, Collection

from mixnet_tf.metrics import Accuracy, Loss

TOLERABLE = 0.01
"""A loss of accuracy that is certain, and still no reason to keep float32."""
PRECISE = 0.02
"""A loss that must be ruled out before two accuracies are called the same."""
TINY_MS = 1.0
"""Below it, what int8 costs at every layer outweighs what it saves in it."""

_EQUAL = 1.05  # sizes and times that differ by less are as good as the same


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """The numbers that decide.

    Attributes:
        float_file: name of the float32 file.
        int8_file: name of the int8 file.
        count: test images.
        top1: of the float32 file.
        commonest: share of the most frequent class of the test images.
        loss: top-1 that int8 loses against float32.
        size: bytes of the float32 file over those of the int8 file.
        speed: time of the float32 file over that of the int8 file; None where they were not timed.
        float_ms: median latency of the float32 file, or None.
    """

    float_file: str
    int8_file: str
    count: int
    top1: Accuracy
    commonest: float
    loss: Loss
    size: float
    speed: float | None
    float_ms: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to ship.

    Attributes:
        ship: name of the file, or None where the numbers do not decide.
        sentence: says so, and why.
        advice: sentences that go with it.
        mixed: whether the recipe int8_mixed is worth a try.
    """

    ship: str | None
    sentence: str
    advice: tuple[str, ...] = ()
    mixed: bool = False


_Cases = tuple[tuple[str, Callable[[Facts], bool]], ...]

_ACCURACY: _Cases = (
    ("untrained", lambda facts: facts.top1.value <= facts.commonest),
    ("guesses", lambda facts: facts.top1.low <= facts.commonest),
    ("better", lambda facts: facts.loss.high <= 0),
    ("cost", lambda facts: facts.loss.low > 0 and facts.loss.value <= TOLERABLE),
    ("lost", lambda facts: facts.loss.low > 0),
    ("same", lambda facts: facts.loss.high <= PRECISE),
    ("unclear", lambda facts: True),
)
_SPEED: _Cases = (
    ("unknown", lambda facts: facts.speed is None),
    ("faster", lambda facts: _of(facts.speed) >= _EQUAL),
    ("as fast", lambda facts: _of(facts.speed) > 1 / _EQUAL),
    ("slower, tiny", lambda facts: facts.float_ms is not None and facts.float_ms < TINY_MS),
    ("slower", lambda facts: True),
)
_SIZE: _Cases = (
    ("smaller", lambda facts: facts.size >= _EQUAL),
    ("as large", lambda facts: facts.size > 1 / _EQUAL),
    ("larger", lambda facts: True),
)

_GOOD = ("better", "cost", "same")
_SLOWER = ("slower, tiny", "slower")
_ANY = ()

_SENTENCES: tuple[tuple[Collection[str], Collection[str], Collection[str], str | None, str], ...] = (
    (
        ("untrained",), _ANY, _ANY, None,
        "Ship neither file: the network is right on {top1} of the test images, no more often than always guessing the "
        "most frequent class ({commonest}).",
    ),
    (
        ("guesses",), _ANY, _ANY, None,
        "Not decided: {count} test images are too few to tell the network from one that always guesses the most "
        "frequent class.",
    ),
    (
        ("lost",), (*_SLOWER, "as fast"), _ANY, "float",
        "Ship {float_file}: int8 loses {value} points of accuracy ({low} to {high}) and is no faster.",
    ),
    (
        ("lost",), _ANY, _ANY, "float",
        "Ship {float_file} for now: int8 loses {value} points of accuracy ({low} to {high}).",
    ),
    (
        _ANY, ("slower, tiny",), _ANY, "float",
        "This network is so small that int8 does not pay: ship {float_file}. int8 takes {slowness} times as long.",
    ),
    (
        _ANY, ("slower",), _ANY, "float",
        "On this processor int8 does not pay: ship {float_file}. int8 takes {slowness} times as long.",
    ),
    (
        _ANY, ("as fast",), ("as large", "larger"), "float",
        "Ship {float_file}: int8 is neither smaller nor faster.",
    ),
    (
        _ANY, ("unknown",), ("as large", "larger"), "float",
        "Ship {float_file}: int8 is not smaller, and nothing was timed.",
    ),
    (
        ("unclear",), _ANY, _ANY, None,
        "Not decided: {count} test images are too few to tell. int8 may lose up to {high} points of accuracy; it is "
        "{gain}.",
    ),
    (_GOOD, ("unknown",), _ANY, "int8", "Ship {int8_file}: {accuracy}, {gain} than float32; nothing was timed."),
    (_GOOD, ("as fast",), _ANY, "int8", "Ship {int8_file}: {accuracy}, {gain} than float32, and as fast."),
    (_GOOD, _ANY, _ANY, "int8", "Ship {int8_file}: {accuracy}, {gain} than float32."),
)  # fmt: skip
"""Accuracy, speed and size (nothing stands for any) → the file to ship → the sentence."""

_WORDS = {
    "better": "at least the accuracy of float32",
    "cost": "{value} points less accurate ({low} to {high})",
    "same": "the same accuracy within {high} points",
    "smaller": "{size} times smaller",
    "as large": "no smaller",
    "larger": "{largeness} times larger",
    "faster": "{speed} times faster",
}
_ADVICE: tuple[tuple[Collection[str], Collection[str], Collection[str], str], ...] = (
    (
        (*_GOOD, "lost", "unclear"), _ANY, _ANY,
        "In float32 the network is right on {top1} of {count} test images.",
    ),
    (("untrained",), _ANY, _ANY, "Train for more epochs, or look at the images and their labels."),
    (("guesses",), _ANY, _ANY, "Measure again on more test images."),
    (
        ("lost",), ("faster", "unknown"), _ANY,
        "The recipe int8_mixed keeps the blocks that lose most in float32: export with it, and compare.",
    ),
    (("unclear",), ("faster", "as fast", "unknown"), ("smaller",), "About {needed} test images would decide."),
    (("unclear",), ("faster",), ("as large", "larger"), "About {needed} test images would decide."),
    (
        _GOOD, _SLOWER, ("smaller",),
        "Where the size of the file matters more than its speed: {int8_file} is {size} times smaller, with {accuracy}.",
    ),
    (_ANY, ("slower",), _ANY, "mixnet-tf inspect {int8_file} says which operators are slow."),
    (_ANY, ("unknown",), _ANY, "mixnet-tf benchmark times the files."),
)  # fmt: skip
_VAL_STOOD_IN = (
    "The data has no test split: its val stood in, which also chose the best epoch, "
    "so the accuracies are a little too high."
)

_UNKNOWN = "Not decided: int8 and float32 were not compared on the same images."


def judge(facts: Facts | None, *, test_is_val: bool = False) -> Verdict:
    """Return what to ship.

    Args:
        facts: the numbers that decide, or None where one is missing.
        test_is_val: whether the images that were measured also chose the best epoch.

    Example:
        >>> judge(facts).sentence                                                                # doctest: +SKIP
        'Ship int8.tflite: the same accuracy within 0.3 points, 3.3 times smaller and 2.4 times faster than float32.'
    """
    stood_in = (_VAL_STOOD_IN,) if test_is_val else ()
    if facts is None:
        return Verdict(ship=None, sentence=_UNKNOWN, advice=stood_in)
    case = tuple(_first(table, facts) for table in (_ACCURACY, _SPEED, _SIZE))
    words = _words(facts, case)
    ship, sentence = next(row[3:] for row in _SENTENCES if _holds(row[:3], case))
    advice = (row[3].format(**words) for row in _ADVICE if _holds(row[:3], case))
    files = {"float": facts.float_file, "int8": facts.int8_file, None: None}
    return Verdict(
        ship=files[ship],
        sentence=sentence.format(**words),
        advice=(*advice, *stood_in),
        mixed=case[0] == "lost" and case[1] in ("faster", "unknown"),
    )


def _first(table: _Cases, facts: Facts) -> str:
    return next(name for name, holds in table if holds(facts))


def _holds(wanted: tuple[Collection[str], ...], case: tuple[str, ...]) -> bool:
    return all(not names or name in names for names, name in zip(wanted, case, strict=True))


def _of(number: float | None) -> float:
    return math.nan if number is None else number


def _words(facts: Facts, case: tuple[str, ...]) -> dict[str, str]:
    """Return what the sentences have in braces."""
    accuracy, speed, size = case
    speedup = _of(facts.speed)
    numbers = {
        "float_file": facts.float_file,
        "int8_file": facts.int8_file,
        "count": f"{facts.count:,}",
        "top1": f"{facts.top1.value:.1%}",
        "commonest": f"{facts.commonest:.1%}",
        "value": _points(facts.loss.value),
        "low": f"{math.floor(_rounded(facts.loss.low)) / 10:.1f}",  # a bound is never rounded inwards
        "high": f"{math.ceil(_rounded(facts.loss.high)) / 10:.1f}",
        "size": f"{facts.size:.1f}",
        "largeness": f"{1 / facts.size:.1f}",
        "speed": f"{speedup:.1f}",
        "slowness": f"{1 / speedup:.1f}",
        "needed": f"{_needed(facts):,}",
    }
    gains = [_WORDS[size].format(**numbers)]
    if speed == "faster":
        gains.append(_WORDS[speed].format(**numbers))
    return numbers | {"accuracy": _WORDS.get(accuracy, "").format(**numbers), "gain": " and ".join(gains)}


def _rounded(share: float) -> float:
    """Return tenths of a percentage point, without the noise of binary fractions."""
    return round(1000 * share, 6)


def _points(share: float) -> str:
    return "less than 0.1" if 0 < _rounded(share) < 0.5 else f"{100 * share:.1f}"


def _needed(facts: Facts) -> int:
    """Return how many images would narrow the interval so far that it decides; widths go with the root of the count."""
    spread = facts.loss.high - facts.loss.value
    target = max(PRECISE - facts.loss.value, facts.loss.value)
    exact = round(facts.count * (spread / target) ** 2, 6)
    digit = 10 ** max(0, math.floor(math.log10(max(exact, 1))) - 1)  # two digits are as many as the estimate deserves
    return max(facts.count + 1, math.ceil(exact / digit) * digit)
