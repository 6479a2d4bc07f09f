"""The page in headless Chromium."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
RUNTIME = ROOT / "tflite" / "web" / "node_modules"

Browse = Callable[..., Any]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser; MIXNET_TF_CHROMIUM names another one."""
    if shutil.which("node") is None:
        pytest.skip("no node: install Node.js 20 or later")
    for folder in (HERE, RUNTIME.parent):
        if not (folder / "node_modules").is_dir():
            pytest.skip(f"no node_modules: npm ci --prefix {folder.relative_to(ROOT)}")
    browser = shutil.which(os.environ.get("MIXNET_TF_CHROMIUM", "chromium"))
    if browser is None:
        pytest.skip("no chromium: apt-get install chromium, or name one by MIXNET_TF_CHROMIUM")
    return browser


@pytest.fixture
def browse(chromium) -> Browse:
    """A function that does a scenario of browser.mjs with the page, and returns what it saw.

    Whatever is done, no request may leave this machine, and no script may fail or be blocked.
    """

    def run(url: str, scenario: str, **options: object) -> Any:
        command = ["node", str(HERE / "browser.mjs"), scenario]
        given = json.dumps({"url": url, "chromium": chromium, **options})
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        outside = [request for request in seen["requests"] if not request.startswith((url, "data:", "blob:"))]
        assert outside == [] and seen["errors"] == []
        assert seen["requests"]
        return seen["result"]

    return run


@contextlib.contextmanager
def serving(bundle: Path, port: int | str = 0):
    """Yield the address of the page with a bundle, served by the command in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "mixnet_tf",
        "serve-demo",
        bundle,
        "--port",
        str(port),
        "--runtime",
        RUNTIME,
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads("".join(process.stdout.readline() for _ in range(4)))["url"]
    finally:
        process.terminate()
        process.communicate()
