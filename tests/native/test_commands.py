"""The commands of both READMEs, as they stand there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn.datasets
from native_builds import ROOT, SOURCES

SKIPPED = ("sudo ", "python3 -m venv ", "pip ")  # what installs


def commands(readme: Path, heading: str) -> list[str]:
    """Return the commands of the first shell block under a heading."""
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", readme.read_text(), re.DOTALL | re.MULTILINE)
    (block, *_) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line for line in block.splitlines() if not line.startswith(SKIPPED)]


@pytest.mark.slow
@pytest.mark.parametrize("built", ["c"], indirect=True)
@pytest.mark.parametrize(
    ("readme", "heading", "inside"),
    [(ROOT / "README.md", "C, C++, Raspberry Pi", "."), (SOURCES / "README.md", "In C and C++", "tflite/native")],
)
def test_they_run(readme, heading, inside, built, made, tmp_path, monkeypatch):
    shutil.copytree(SOURCES, tmp_path / "tflite" / "native", ignore=shutil.ignore_patterns("classify"))
    folder = tmp_path / inside
    shutil.copytree(made, folder / "to_ship")
    shutil.copy(Path(sklearn.datasets.__file__).parent / "images" / "china.jpg", folder / "photo.jpg")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    lines = commands(readme, heading)
    assert [line.split()[0].rpartition("/")[2] for line in lines] == ["make", "classify", "classify"]
    for line in lines:
        subprocess.run(["bash", "-euc", line], cwd=folder, check=True, capture_output=True)
