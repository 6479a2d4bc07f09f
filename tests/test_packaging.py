"""A wheel, built, installed into a fresh virtual environment, and run outside the checkout."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from mixnet_tf.schema import shipped_files

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    (path,) = folder.glob("mixnet_tf-*.whl")
    return path


@pytest.fixture(scope="module", autouse=True)
def no_python_path():
    """The checkout must not be importable where the wheel is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        yield


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The Python of a fresh environment with the wheel; the dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_wheel_holds_what_it_must_and_no_more(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"mixnet_tf", f"{wheel.name.split('-')[0]}-{wheel.name.split('-')[1]}.dist-info"}
    for kind in ("configs", "recipes"):
        for path in (ROOT / {"configs": "configs", "recipes": "tflite/recipes"}[kind]).glob("*.yaml"):
            assert f"mixnet_tf/{kind}/{path.name}" in names
    assert {f"mixnet_tf/{path.relative_to(ROOT / 'mixnet_tf')}" for path in (ROOT / "mixnet_tf").rglob("*.py")} <= names


def test_installed_wheel_runs_anywhere(python, tmp_path):
    def run(*arguments):
        done = subprocess.run([python.parent / "mixnet-tf", *arguments], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert set(run("list", "--json")["configs"]) == set(shipped_files("configs"))
    assert run("summary", "mixnet_m", "--json")["parameters"] == 5_014_382
    code = "import mixnet_tf; print(mixnet_tf.__file__); print(mixnet_tf.MixNetS(classes=3, weights=None).output_shape)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    where, shape = done.stdout.splitlines()
    assert Path(where).is_relative_to(python.parents[1]) and shape == "(None, 3)"
