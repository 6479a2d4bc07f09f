"""The command line itself: its help, its commands, and what becomes of errors."""

import subprocess
import sys

import pytest

from mixnet_tf import __version__
from mixnet_tf.cli import COMMANDS, main
from mixnet_tf.commands import list_
from mixnet_tf.errors import MixNetError


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
    def run(args):
        raise error

    monkeypatch.setattr(list_, "run", run)
    assert main(["list"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"mixnet-tf list: error: {line}\n" and captured.out == ""


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def run(args):
        raise ZeroDivisionError

    monkeypatch.setattr(list_, "run", run)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


def test_module(capsys):
    done = subprocess.run([sys.executable, "-m", "mixnet_tf", "list"], capture_output=True, text=True)
    assert done.returncode == 0 and "mixnet_nano" in done.stdout and done.stderr == ""
