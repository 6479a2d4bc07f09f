"""The C program of tflite/native, built in every way that is tested."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "tflite" / "native"

_STRICT = "-Wall -Wextra -Werror"
VARIANTS = {
    "c": {},
    "cpp": {"CC": "g++ -x c++", "STD": "c++11"},
    "sanitized": {"CFLAGS": f"-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all {_STRICT}"},
    "valgrind": {"CFLAGS": f"-O1 -g {_STRICT}"},
    "arm64": {},
}
"""What make is given."""

_HERE = ROOT / "tests" / "native"
_VALGRIND = (
    *("valgrind", "-q", "--leak-check=full", "--error-exitcode=99"),
    f"--suppressions={_HERE / 'litert.supp'}",
)
_PACKAGES = ("libjpeg", "libpng", "libcjson")


class Absent(Exception):  # noqa: N818 - a reason to skip, no error
    """What a build needs, and this machine does not have."""


@dataclasses.dataclass(frozen=True)
class Built:
    """The program, and probe.c, which shows what it computes on the way.

    Attributes:
        variant: one of VARIANTS.
        folder: where both are.
        prefix: what starts them.
    """

    variant: str
    folder: Path
    prefix: tuple[str, ...]

    def _start(self, program: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
        command = [*self.prefix, str(self.folder / program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, check=False)

    def run(self, *arguments: object, program: str = "classify") -> subprocess.CompletedProcess[str]:
        done = self._start(program, *arguments)
        texts = [text.decode(errors="backslashreplace") for text in (done.stdout, done.stderr)]
        return subprocess.CompletedProcess(done.args, done.returncode, *texts)

    def probe(self, *arguments: object) -> bytes:
        done = self._start("probe", *arguments)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def outputs(self, model: Path, file: Path) -> np.ndarray:
        """Return the probabilities, one after the other, of the images whose pixels are in `file`."""
        return np.frombuffer(self.probe("outputs", model, file), "<f4")

    def arm_outputs(self, model: Path, file: Path) -> np.ndarray:
        """Return the same of LiteRT's interpreter in Python, on the emulated Arm."""
        command = [Path(os.environ["MIXNET_TF_ARM64"], "python"), _HERE / "outputs.py", model, file]
        return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<f4")


def make(folder: Path, variables: Mapping[str, str], program: str | Path = "make") -> subprocess.CompletedProcess[str]:
    """Run make; LiteRT is that of the Python that runs the tests, unless the variables name another."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [program, "-B", "-C", folder, *(f"{name}={value}" for name, value in variables.items())]
    return subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)


def build(variant: str, folder: Path) -> Built:
    """Copy the sources into a folder and build them there.

    Raises:
        Absent: a tool or a library is missing.
    """
    for path in (*SOURCES.glob("*.[ch]"), SOURCES / "Makefile", _HERE / "probe.c"):
        shutil.copy(path, folder)
    maker, prefix = _setting(variant)
    for program, source in (("probe", "probe.c"), ("classify", "classify.c")):
        chosen = {"PROGRAM": program, "SOURCES": f"{source} classifier.c image.c file.c"}
        done = make(folder, {**VARIANTS[variant], **chosen}, maker)
        assert done.returncode == 0, done.stderr
    return Built(variant, folder, prefix)


def _setting(variant: str) -> tuple[str, tuple[str, ...]]:
    """Return what is called to make a program, and what starts it."""
    tools = {"valgrind": ["gcc", "valgrind"], "arm64": ["aarch64-linux-gnu-gcc", "qemu-aarch64"], "cpp": ["g++"]}
    missing = [tool for tool in ("make", "pkg-config", *tools.get(variant, ["gcc"])) if shutil.which(tool) is None]
    if missing:
        raise Absent(f"needs {', '.join(missing)}")
    if variant == "arm64":
        if "MIXNET_TF_ARM64" not in os.environ:
            raise Absent("set MIXNET_TF_ARM64 to a folder of tests/bench/arm64.sh")
        arm64 = Path(os.environ["MIXNET_TF_ARM64"]).resolve()
        return str(arm64 / "make"), (str(arm64 / "run"),)
    if subprocess.run(["pkg-config", "--exists", *_PACKAGES], check=False).returncode:
        raise Absent("needs libjpeg-dev, libpng-dev and libcjson-dev")
    return "make", _VALGRIND if variant == "valgrind" else ()
