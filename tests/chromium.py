"""The page in headless Chromium: what tests/web and the benchmark do it with."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = ROOT / "tests" / "web" / "browser.mjs"
RUNTIME = ROOT / "tflite" / "web" / "node_modules"
NAMES = (os.environ.get("MIXNET_TF_CHROMIUM", "chromium"), "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """Return the browser's path, or raise FileNotFoundError with what is missing and how to get it."""
    if shutil.which("node") is None:
        raise FileNotFoundError("no node: install Node.js 20 or later")
    for folder in (SCENARIOS.parent, RUNTIME.parent):
        if not (folder / "node_modules").is_dir():
            raise FileNotFoundError(f"no node_modules: npm ci --prefix {folder.relative_to(ROOT)}")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise FileNotFoundError("no chromium: apt-get install chromium, or name one by MIXNET_TF_CHROMIUM")
    return found


@contextlib.contextmanager
def serving(bundle: Path, port: int | str = 0, runtime: Path = RUNTIME) -> Iterator[str]:
    """Yield the address of the page with a bundle, served by the command in a process of its own."""
    arguments = ["serve-demo", bundle, "--port", port, "--runtime", runtime, "--json"]
    command = [sys.executable, "-m", "mixnet_tf", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads("".join(process.stdout.readline() for _ in range(4)))["url"]
    finally:
        process.terminate()
        process.communicate()


def browse(url: str, scenario: str, **options: object) -> Any:
    """Do a scenario of browser.mjs with the page, and return what it saw.

    Whatever is done, no request may leave this machine, and no script may fail or be blocked.
    """
    given = json.dumps({"url": url, "chromium": find_chromium(), **options})
    done = subprocess.run(["node", SCENARIOS, scenario], input=given, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    outside = [request for request in seen["requests"] if not request.startswith((url, "data:", "blob:"))]
    assert outside == [] and seen["errors"] == []
    return seen["result"]
