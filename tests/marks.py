"""Cases of a test that run in the slow or in the exhaustive suite only."""

from typing import Any

import pytest


def slow(*cases: object) -> list[Any]:
    """Return the cases, each a value or a tuple of them, marked ``slow``."""
    return [_marked(case, pytest.mark.slow) for case in cases]


def exhaustive(*cases: object) -> list[Any]:
    """Return the cases, each a value or a tuple of them, marked ``exhaustive``."""
    return [_marked(case, pytest.mark.exhaustive) for case in cases]


def _marked(case: object, mark: pytest.MarkDecorator) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=mark)
