"""The value checks: what each takes, and the one line it raises for all else."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from mixnet_tf.checks import boolean, check_fields, image_size, integer, number, one_of, shown
from mixnet_tf.errors import ArgumentError, DataError, MixNetError

HUGE = 16**5000  # more digits than Python turns into text


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.int32([3])[0]])
def test_integers_of_python_and_numpy(value):
    result = integer("n", value, 3, 3)
    assert result == 3 and type(result) is int


@pytest.mark.parametrize("value", [True, np.True_, 2.0, np.float32(2), "2", None, [2], np.array([2]), np.array(2), 2j])
def test_all_else_is_no_integer(value):
    with pytest.raises(ArgumentError, match=r"^n: found .*, expected an integer from 0$"):
        integer("n", value, 0)


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (0, (1,), "n: found 0, expected an integer from 1"),
        (np.int64(-1), (0, 7), "n: found np.int64(-1), expected an integer from 0 to 7"),
        (8, (0, 7), "n: found 8, expected an integer from 0 to 7"),
        (HUGE, (0, 7), "n: found a very large int, expected an integer from 0 to 7"),
    ],
    ids=["low", "numpy", "high", "huge"],
)
def test_bounds_of_integers(value, bounds, expected):
    with pytest.raises(ArgumentError) as raised:
        integer("n", value, *bounds)
    assert str(raised.value) == expected


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.float64(1), np.int16(1)])
def test_numbers_of_python_and_numpy(value):
    result = number("x", value, 1, 1)
    assert result == 1 and type(result) is float
    assert number("x", value, 0, above=True) == 1


@pytest.mark.parametrize(
    "value", [True, np.True_, "1", None, 1j, np.ones(1), float("nan"), float("inf"), np.float32("inf"), HUGE], ids=shown
)
def test_all_else_is_no_number(value):
    with pytest.raises(ArgumentError, match=r"^x: found .*, expected a number from 0$"):
        number("x", value, 0)


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (-0.1, {"low": 0}, "x: found -0.1, expected a number from 0"),
        (0, {"low": 0, "above": True}, "x: found 0, expected a number above 0"),
        (1.5, {"low": 0, "high": 1}, "x: found 1.5, expected a number from 0 to 1"),
        (2, {"low": 0, "high": 1, "above": True}, "x: found 2, expected a number above 0 to 1"),
    ],
)
def test_bounds_of_numbers(value, bounds, expected):
    with pytest.raises(ArgumentError) as raised:
        number("x", value, **bounds)
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(8, (8, 8)), (np.int64(8), (8, 8)), ((8, 9), (8, 9)), ([8, np.int32(9)], (8, 9)), ((1, 1), (1, 1))],
)
def test_image_sizes(value, expected):
    result = image_size(value)
    assert result == expected and {type(side) for side in result} == {int}


@pytest.mark.parametrize("value", [0, -8, True, 8.0, "88", None, (), (8,), (8, 8, 3), (8, 0), (8, True), (8, "8"), {8}])
def test_what_is_no_image_size(value):
    with pytest.raises(ArgumentError) as raised:
        image_size(value, "size")
    assert str(raised.value) == f"size: found {value!r}, expected pixels as an integer or (height, width)"


def test_booleans_are_true_or_false():
    assert boolean("flip", True) is True and boolean("flip", False) is False
    for value in (1, 0, None, "True", np.array([True])):
        with pytest.raises(ArgumentError, match=r"^flip: found .*, expected True or False$"):
            boolean("flip", value)


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int = dataclasses.field(default=1, metadata={"low": 1})
    rate: float = dataclasses.field(default=1, metadata={"low": 0, "high": 2, "above": True})
    fast: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "settings.")


def test_fields_are_checked_by_their_metadata_and_made_plain():
    settings = Settings(np.int64(3), np.float32(0.5), True)
    assert (settings.steps, settings.rate, settings.fast) == (3, 0.5, True)
    assert [type(getattr(settings, field.name)) for field in dataclasses.fields(settings)] == [int, float, bool]
    assert type(Settings().rate) is float
    for wrong in ({"steps": 0}, {"steps": True}, {"steps": 1.0}, {"rate": 0}, {"rate": 2.5}, {"fast": 1}):
        (name,) = wrong
        with pytest.raises(ArgumentError, match=f"^settings.{name}: found {wrong[name]}, expected "):
            Settings(**wrong)


def test_one_of_some_names():
    assert one_of("split", "val", ("train", "val")) == "val"
    for value, hint in (("vla", " (did you mean 'val'?)"), ("x", ""), (None, ""), (np.array(["val"]), ""), (HUGE, "")):
        with pytest.raises(ArgumentError) as raised:
            one_of("split", value, ("train", "val"))
        assert str(raised.value) == f"split: found {shown(value)}, expected one of train, val{hint}"


def test_messages_are_one_short_line():
    for value in ("a\nb", np.zeros((9, 9)), list(range(1000)), "x" * 1000, HUGE):
        assert "\n" not in shown(value) and len(shown(value)) <= 80
    assert shown([1, 2]) == "[1, 2]"


def test_the_error_is_a_value_error_of_the_package():
    assert issubclass(ArgumentError, MixNetError) and issubclass(ArgumentError, ValueError)
    assert not issubclass(ArgumentError, DataError) and not issubclass(DataError, ArgumentError)


def test_checking_does_not_import_numpy():
    code = "import sys, mixnet_tf.checks; print({'numpy', 'keras'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
