"""The command line itself: its help, its commands, and what becomes of errors."""

import os
import subprocess
import sys

import pytest
from command_line import refused

from mixnet_tf import __version__
from mixnet_tf.cli import COMMANDS, main
from mixnet_tf.commands import list_
from mixnet_tf.errors import MixNetError


def throw(error: Exception):
    def run(args):
        raise error

    return run


def test_help_answers_without_tensorflow():
    code = "import sys; from mixnet_tf.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "--data" in done.stdout
    assert "scales (default: 0.5)" in " ".join(done.stdout.split())


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as way_out:
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert way_out.value.code == 0
    assert all(f" {name} {command.HELP}" in text for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name, capsys):
    with pytest.raises(SystemExit) as way_out:
        main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert way_out.value.code == 0
    assert COMMANDS[name].HELP in text and "--json" in text


def test_version(capsys):
    with pytest.raises(SystemExit) as way_out:
        main(["--version"])
    assert way_out.value.code == 0 and capsys.readouterr().out == f"mixnet-tf {__version__}\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MixNetError("two\nlines,  and spaces"), "two lines, and spaces"),
        (FileNotFoundError(2, "No such file or directory", "a/b.yaml"), "a/b.yaml: No such file or directory"),
        (OSError("no number"), "output: no number"),
        (MemoryError(), "memory ran out; free some, or give smaller or fewer images"),
    ],
)
def test_errors_are_one_line(error, line, monkeypatch, capsys):
    monkeypatch.setattr(list_, "run", throw(error))
    assert main(["list"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"mixnet-tf list: error: {line}\n" and captured.out == ""


HOSTILE = "a\x1b[2J\x07\n\u202eb\udc80é"
SHOWN = "a\\x1b[2J\\x07\\n\\u202eb\\x80é"


def test_names_cannot_act_on_the_terminal(monkeypatch, capsys):
    result = {"configs": {HOSTILE: {"parameters": 1, "macs": 1}}, "recipes": [HOSTILE]}
    monkeypatch.setattr(list_, "run", lambda args: result)
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    assert output.count(SHOWN) == 2
    assert all(line.isprintable() for line in output.splitlines())

    monkeypatch.setattr(list_, "run", throw(OSError(5, "broken", HOSTILE)))
    assert main(["list"]) == 2
    assert capsys.readouterr().err == f"mixnet-tf list: error: {SHOWN.replace(chr(92) + 'n', ' ')}: broken\n"
    assert str(MixNetError(f"{HOSTILE}: x")) == f"{SHOWN.replace(chr(92) + 'n', ' ')}: x"


def test_a_terminal_that_cannot_encode_a_name(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    code = "import mixnet_tf.commands.list_ as c; c.run = lambda args: {'configs': {}, 'recipes': ['é']}; "
    code += "from mixnet_tf.cli import main; main(['list'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert done.stdout.endswith(b"recipes: \\xe9\n")
    command = [sys.executable, "-m", "mixnet_tf", "summary", "no/réseau.yaml"]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 2
    assert done.stderr == b"mixnet-tf summary: error: no/r\\xe9seau.yaml: No such file or directory\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "m.keras", "--data", "digits", "--split", "x" * 5000],
        ["train", "mixnet_nano", "--data", "digits", "--output", "o", "--epochs", "9" * 4000],
        ["train", "mixnet_nano", "--data", "digits", "--output", "o", "--epochs", "e" * 5000],
        ["summary", "mixnet_nano", "--" + "y" * 5000],
        ["summary", "n" * 5000],
        ["summary", "mixnet_nano", "a b " * 2000],
        ["z" * 5000],
    ],
)
def test_long_values_are_not_echoed(arguments, capsys):
    assert len(refused(capsys, *arguments)) < 700


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(list_, "run", throw(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["list"])


def test_module(capsys):
    done = subprocess.run([sys.executable, "-m", "mixnet_tf", "list"], capture_output=True, text=True)
    assert done.returncode == 0 and "mixnet_nano" in done.stdout and done.stderr == ""
