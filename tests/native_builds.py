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
    "arm64": {"CC": "aarch64-linux-gnu-gcc"},
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


def make(
    folder: Path, variables: Mapping[str, str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run make; LiteRT is that of the Python that runs the tests, unless the variables name another."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["make", "-B", "-C", str(folder), *(f"{name}={value}" for name, value in variables.items())]
    return subprocess.run(
        command, env=os.environ | {"PATH": path} | dict(env or {}), capture_output=True, text=True, check=False
    )


def build(variant: str, folder: Path) -> Built:
    """Copy the sources into a folder and build them there.

    Raises:
        Absent: a tool or a library is missing.
    """
    for path in (*SOURCES.glob("*.[ch]"), SOURCES / "Makefile", _HERE / "probe.c"):
        shutil.copy(path, folder)
    variables, env, prefix = _setting(variant)
    for program, source in (("probe", "probe.c"), ("classify", "classify.c")):
        done = make(folder, {**variables, "SOURCES": f"{source} classifier.c image.c file.c"}, env)
        assert done.returncode == 0, done.stderr
        if program != "classify":
            (folder / "classify").rename(folder / program)
    return Built(variant, folder, prefix)


def _setting(variant: str) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Return make's variables, its environment, and what starts a program."""
    variables = dict(VARIANTS[variant])
    tools = ["make", "pkg-config", variables.get("CC", "gcc").split()[0]]
    tools += {"valgrind": ["valgrind"], "arm64": ["qemu-aarch64"]}.get(variant, [])
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise Absent(f"needs {', '.join(missing)}")
    if variant == "arm64":
        return _arm64(variables)
    if subprocess.run(["pkg-config", "--exists", *_PACKAGES], check=False).returncode:
        raise Absent("needs libjpeg-dev, libpng-dev and libcjson-dev")
    return variables, {}, _VALGRIND if variant == "valgrind" else ()


def _arm64(variables: dict[str, str]) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    if "MIXNET_TF_ARM64" not in os.environ:
        raise Absent("set MIXNET_TF_ARM64 to a folder of tests/bench/arm64.sh")
    folder = Path(os.environ["MIXNET_TF_ARM64"]).resolve()
    root, multiarch = folder / "root", "aarch64-linux-gnu"
    include, libraries = root / "usr/include", root / f"usr/lib/{multiarch}"
    variables |= {
        "CC": f"{variables['CC']} -I{include} -I{include}/{multiarch}",
        "LDFLAGS": f"-L{libraries} -Wl,-rpath-link,{libraries}:{root}/lib/{multiarch}",
        "LITERT": str(folder / "site/ai_edge_litert/libLiteRt.so"),
    }
    env = {"PKG_CONFIG_LIBDIR": f"{libraries}/pkgconfig", "PKG_CONFIG_SYSROOT_DIR": str(root)}
    return variables, env, ("qemu-aarch64", "-cpu", "cortex-a76", "-L", str(root))
