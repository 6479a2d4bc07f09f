"""Tests that need a browser are skipped without one."""

import pytest
from chromium import find_chromium


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser, or a reason why there is none."""
    try:
        return find_chromium()
    except FileNotFoundError as reason:
        pytest.skip(str(reason))
