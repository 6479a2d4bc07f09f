"""What runs a ``.tflite`` gives the same without TensorFlow; what needs it says in one line what to type.

The default tests refuse the packages of the extra ``train`` in a process. The slow one installs the wheel without it.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import results
from PIL import Image
from test_dependencies import KNOWN, TRAIN, declared
from without_packages import call_functions

SCRIPT = Path(__file__).with_name("without_packages.py")
REFUSED = sorted(module for module, names in KNOWN.items() if declared(names) & TRAIN)
LINE = 'needs {}, which is not installed; type: pip install "mixnet_tf[train]"'
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def data(tmp_path_factory, digits) -> Path:
    """An .npz of digits, and the same images in folders: four of each class to train on, and two to test on.

    Those to validate on cannot be read.
    """
    root, arrays = tmp_path_factory.mktemp("data"), {}
    for name, count in (("train", 4), ("test", 2)):
        split = digits.splits[name]
        chosen = np.concatenate([np.flatnonzero(split.labels == digit)[:count] for digit in range(10)])
        arrays |= {f"x_{name}": split.images[chosen], f"y_{name}": split.labels[chosen]}
        for i in chosen:
            folder = root / "folder" / name / str(split.labels[i])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(split.images[i]).save(folder / f"{i}.png")
    for digit in range(10):
        (root / "folder" / "val" / str(digit)).mkdir(parents=True)
        (root / "folder" / "val" / str(digit) / "bad.png").touch()
    np.savez(root / "few.npz", **arrays)
    return root


@pytest.fixture(scope="module")
def works(data, nano_float32, nano_int8, nano_mobile, tmp_path_factory) -> list[list[str]]:
    """The commands that must work, and print the same as with TensorFlow."""
    models, npz = [str(nano_float32), str(nano_int8)], str(data / "few.npz")
    ship, bundle = str(nano_mobile), str(tmp_path_factory.mktemp("ship") / "bundle")
    return [
        ["list"],
        ["summary", "mixnet_s"],
        ["inspect", models[1]],
        ["inspect", models[1], "--cost"],
        ["benchmark", *models, "--rounds", "1"],
        ["evaluate", models[1], "--data", npz],
        ["evaluate", models[0], "--data", str(data / "folder")],
        ["compare", *models, "--data", npz],
        ["compare", *models, "--data", str(data / "folder"), "--split", "train"],
        ["predict", ship, str(data / "folder" / "test")],
        ["bundle", ship, "--data", npz, "--output", bundle, "--overwrite"],
        ["verify", bundle],
    ]


@pytest.fixture(scope="module")
def fails(data, trained_nano, nano_int8, nano_float32, nano_mobile) -> list[tuple[str, list[str]]]:
    """The commands that must end in one line, each with what it needs."""
    npz, new = ["--data", str(data / "few.npz")], ["--output", str(data / "new")]
    picture = str(next((data / "folder" / "test").rglob("*.png")))
    return [
        ("TensorFlow", ["train", "mixnet_nano", *npz, *new]),
        ("TensorFlow", ["pipeline", "mixnet_nano", *npz, *new]),
        ("TensorFlow", ["evaluate", str(trained_nano), "--data", str(data / "folder"), "--split", "val"]),  # unread
        ("TensorFlow", ["compare", str(nano_int8), str(trained_nano), *npz]),
        ("TensorFlow", ["export", str(trained_nano), "--recipe", "float32", "--output", str(data / "new.tflite")]),
        ("TensorFlow", ["export", str(nano_float32), "--recipe", "int8", *npz, "--output", str(data / "new.tflite")]),
        ("TensorFlow", ["import-weights", "w.npz", "--config", "mixnet_nano", "--output", str(data / "new.keras")]),
        ("TensorFlow", ["predict", str(trained_nano), picture]),
        ("matplotlib", ["predict", str(nano_mobile), picture, "--save-plot", str(data / "new.png")]),
        ("matplotlib", ["inspect", str(nano_int8), "--save-plot", str(data / "new.png")]),
        ("scikit-learn", ["evaluate", str(nano_int8), "--data", "digits"]),
    ]


def timeless(result: Any) -> Any:
    """Leave the times out that ``benchmark`` measures."""
    return [entry["path"] for entry in result] if isinstance(result, list) and "path" in result[0] else result


def check_output(works, fails, outcomes, capsys):
    """Compare what commands printed with what they print here, and with what the missing packages are called."""
    outcomes = iter(outcomes)
    for arguments in works:
        status, output, errors = next(outcomes)
        assert (status, errors) == (0, ""), arguments
        assert timeless(json.loads(output)) == timeless(results(capsys, *arguments)), arguments
    for name, arguments in fails:
        line = f"mixnet-tf {arguments[0]}: error: {LINE.format(name)}\n"
        assert next(outcomes) == [2, "", line], arguments


def run_script(python, task) -> dict[str, Any]:
    done = subprocess.run(
        [python, "-P", SCRIPT], input=json.dumps(task), capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def files(data, trained_nano, nano_float32, nano_int8) -> list[str]:
    return [str(path) for path in (trained_nano, nano_float32, nano_int8, data / "few.npz")]


def check_functions(answer, files):
    expected = json.loads(json.dumps(call_functions(*files[1:]), default=float))
    assert answer["functions"] == expected
    assert answer["errors"].pop("load_data") == LINE.format("scikit-learn")
    assert len(answer["errors"]) == 7 and set(answer["errors"].values()) == {LINE.format("TensorFlow")}


@pytest.mark.slow
def test_commands_and_functions_in_a_process_that_cannot_import_what_train_brings(works, fails, files, data, capsys):
    assert {"tensorflow", "keras", "sklearn", "h5py", "matplotlib", "jinja2", "safetensors"} < set(REFUSED)
    commands = [[*arguments, "--json"] for arguments in (*works, *(arguments for _, arguments in fails))]
    answer = run_script(sys.executable, {"refused": REFUSED, "commands": commands, "files": files})
    check_output(works, fails, answer["commands"], capsys)
    check_functions(answer, files)
    assert sorted(path.name for path in data.iterdir()) == ["few.npz", "folder"]  # nothing is left behind


@pytest.fixture
def python(wheel, tmp_path) -> Path:
    """The Python of an environment with the wheel and its dependencies, without any extra."""
    venv.create(tmp_path / "small", with_pip=True)
    python = tmp_path / "small" / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", wheel]
    subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    return python


@pytest.mark.exhaustive
def test_commands_and_functions_where_tensorflow_is_not_installed(python, works, fails, files, data, tmp_path, capsys):
    code = "import importlib.util, sys; print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    done = subprocess.run([python, "-c", code, *REFUSED], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.split() == []

    def run(arguments):
        command = [python.with_name("mixnet-tf"), *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT)
        return [done.returncode, done.stdout, done.stderr]

    outcomes = [run(arguments) for arguments in (*works, *(arguments for _, arguments in fails))]
    check_output(works, fails, outcomes, capsys)
    check_functions(run_script(python, {"refused": [], "commands": [], "files": files}), files)
    assert sorted(path.name for path in data.iterdir()) == ["few.npz", "folder"]
