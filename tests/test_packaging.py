"""What a wheel holds, and one built, installed into a fresh virtual environment, and run outside the checkout."""

import fnmatch
import json
import runpy
import subprocess
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from mixnet_tf.schema import shipped_files

ROOT = Path(__file__).resolve().parents[1]
YAML_FOLDERS = {
    "configs": ROOT / "configs",
    "training_configs": ROOT / "configs" / "training",
    "recipes": ROOT / "tflite" / "recipes",
}
PAGE = ROOT / "tflite" / "web"


def package_files() -> set[Path]:
    """Return what the wheel must hold, by path inside the checkout."""
    code = {path for path in (ROOT / "mixnet_tf").rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    page = {path for path in PAGE.iterdir() if path.is_file()}
    return code.union(page, *(folder.glob("*.yaml") for folder in YAML_FOLDERS.values()))


def test_setup_lists_every_file_and_no_other(monkeypatch):
    declared = {}
    monkeypatch.setattr("setuptools.setup", declared.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    folders = {name: ROOT / name.replace(".", "/") for name in declared["packages"]}
    folders |= {name: ROOT / folder for name, folder in declared["package_dir"].items()}
    assert all(name.split(".")[0] == "mixnet_tf" for name in folders)
    packed = {path for folder in folders.values() for path in folder.glob("*.py")}
    for name, patterns in declared["package_data"].items():
        packed |= {path for path in folders[name].iterdir() if any(fnmatch.fnmatch(path.name, p) for p in patterns)}
    assert packed == package_files()


@pytest.fixture
def python(wheel, tmp_path, monkeypatch) -> Path:
    """The Python of a fresh environment with the wheel; the dependencies are those of this one."""
    monkeypatch.delenv("PYTHONPATH", raising=False)  # the checkout must not be importable there
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.mark.slow
def test_wheel_holds_what_it_must_and_no_more(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"mixnet_tf", f"{wheel.name.split('-')[0]}-{wheel.name.split('-')[1]}.dist-info"}
    for kind, folder in YAML_FOLDERS.items():
        assert {f"mixnet_tf/{kind}/{path.name}" for path in folder.glob("*.yaml")} <= names
    assert {f"mixnet_tf/web/{path.name}" for path in PAGE.iterdir() if path.is_file()} <= names
    code = {path for path in package_files() if path.is_relative_to(ROOT / "mixnet_tf")}
    assert {str(path.relative_to(ROOT)) for path in code} <= names


@pytest.mark.slow
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
    code = "from mixnet_tf.demo.page import page_files; print(*sorted(map(str, page_files().values())), sep='\\n')"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    paths = [Path(path) for path in done.stdout.splitlines()]
    assert all(path.is_relative_to(python.parents[1]) for path in paths)
    assert {path.name for path in paths} == {
        path.name for path in PAGE.iterdir() if path.suffix in (".html", ".css", ".js", ".svg")
    }
