"""The command line itself: its help, its commands, and what becomes of errors."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from command_line import refused
from terminal import Terminal

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
    assert COMMANDS[name].HELP in text and all(flag in text for flag in ("--json", "--quiet", "--verbose"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["exprot"],
            "argument COMMAND: found 'exprot', expected one of list, {commands} (did you mean 'export'?); see ",
        ),
        (["import"], "(did you mean 'import-weights'?); see "),
        (["insp"], "(did you mean 'inspect'?); see "),
        (["--verson"], "no flag '--verson' (did you mean '--version'?); see "),
        (
            ["export", "m.keras", "--recipe", "int8", "--ouput", "x"],
            "no flag '--ouput' (did you mean '--output'?); see ",
        ),
        (["export", "m.keras", "--ouput=x.tflite"], "no flag '--ouput' (did you mean '--output'?); see "),
        (["train", "mixnet_s", "-lr", "1"], "no flag '-lr' (did you mean '--lr'?); see "),
        (["evaluate", "m.keras", "--data", "d", "--split", "tset"], "test (did you mean 'test'?); see "),
        (["export", "m.keras"], "the following arguments are required: --output; see "),
        (["list", "more"], "one argument too many: more; see "),
    ],
)
def test_a_slip_gets_the_nearest_name_and_the_help_that_has_it(arguments, line, capsys):
    text = refused(capsys, *arguments)
    commands = ", ".join(list(COMMANDS)[1:])
    program = f"mixnet-tf {arguments[0]}" if arguments[0] in COMMANDS else "mixnet-tf"
    assert text.startswith(f"{program}: error: ")
    assert text.endswith(f"{line.format(commands=commands)}{program} --help")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["export", "m.keras", "--rec", "int8", "--output", "x.tflite"], "--recipe"),
        (["export", "m.keras", "--dat", "digits", "--recipe", "int8", "--output", "x.tflite"], "--data"),
        (["train", "mixnet_nano", "--data", "digits", "--out", "x"], "--output"),
        (["list", "--js"], "--json"),
    ],
)
def test_an_abbreviation_is_a_mistake(arguments, name, capsys):
    (short,) = [text for text in arguments if name.startswith(text)]
    assert f"no flag '{short}' (did you mean '{name}'?)" in refused(capsys, *arguments)


def test_what_follows_a_flag_or_two_dashes_may_begin_with_a_dash(capsys):
    assert "found -3, expected an integer from 1" in refused(capsys, "summary", "mixnet_s", "--classes", "-3")
    assert "--what.keras: no such file" in refused(capsys, "evaluate", "--data", "digits", "--", "--what.keras")


def complete(line: str, folder: Path | None = None) -> list[str]:
    """Ask for completions as the shell function of argcomplete does."""
    with tempfile.NamedTemporaryFile("r") as answer:
        environment = os.environ | {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": "bash", "_ARGCOMPLETE_IFS": "\n"}
        environment |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
        environment["_ARGCOMPLETE_STDOUT_FILENAME"] = answer.name
        command = [sys.executable, "-m", "mixnet_tf"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
        assert done.returncode == 0 and done.stdout == done.stderr == ""
        return sorted(text.strip() for text in answer.read().split("\n"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mixnet-tf ex", ["export"]),
        ("mixnet-tf e", ["evaluate", "export"]),
        ("mixnet-tf export m.keras --rec", ["--recipe"]),
        ("mixnet-tf export m.keras --ouput x --da", ["--data"]),  # what is wrong will be said later
        ("mixnet-tf evaluate m.keras --split t", ["test", "train"]),
    ],
)
def test_the_shell_completes(line, words):
    assert complete(line) == words


def test_the_shell_completes_files(tmp_path):
    for name in ("one.tflite", "two.tflite"):
        (tmp_path / name).touch()
    assert complete("mixnet-tf inspect on", tmp_path) == ["one.tflite"]


def test_an_error_takes_the_line_of_what_was_shown():
    code = "import mixnet_tf.commands.list_ as c; from mixnet_tf.errors import MixNetError\n"
    code += "from mixnet_tf.progress.steps import counted\n"
    code += "def run(args):\n  for part in counted('ab', 'spell', 2, 'letter'): raise MixNetError('broken')\n"
    code += "c.run = run; from mixnet_tf.cli import main; main(['list'])"
    text = Terminal("-c", code).read()
    assert "spell" in text and "\r\x1b[Kmixnet-tf list: error: broken\r\n" in text


@pytest.mark.parametrize("flags", [[], ["--quiet"], ["--verbose"]])
def test_quiet_and_verbose(flags, monkeypatch):
    code = "import mixnet_tf.commands.list_ as c; from mixnet_tf.progress.steps import step, line\n"
    code += "import os; from mixnet_tf.quiet import quiet\n"
    code += "def run(args):\n  line('epoch')\n  with step('convert'), quiet(): os.write(2, b'native')\n"
    code += "  return {'configs': {}, 'recipes': {}}\n"
    code += f"c.run = run; from mixnet_tf.cli import main; main(['list', *{flags}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = re.sub(r"\d\d:\d\d:\d\d", "12:00:00", done.stderr)
    assert said == {"": "epoch\n", "--quiet": "", "--verbose": "epoch\n12:00:00 convert\nnative"}["".join(flags)]


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
    result = {"configs": {HOSTILE: {"description": "", "parameters": 1, "macs": 1}}}
    result["recipes"] = {HOSTILE: {"description": HOSTILE}}
    monkeypatch.setattr(list_, "run", lambda args: result)
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    assert output.count(SHOWN) == 3
    assert all(line.isprintable() for line in output.splitlines())

    monkeypatch.setattr(list_, "run", throw(OSError(5, "broken", HOSTILE)))
    assert main(["list"]) == 2
    assert capsys.readouterr().err == f"mixnet-tf list: error: {SHOWN.replace(chr(92) + 'n', ' ')}: broken\n"
    assert str(MixNetError(f"{HOSTILE}: x")) == f"{SHOWN.replace(chr(92) + 'n', ' ')}: x"


def test_a_terminal_that_cannot_encode_a_name(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    code = "import mixnet_tf.commands.list_ as c; from mixnet_tf.cli import main\n"
    code += "c.run = lambda args: {'configs': {}, 'recipes': {'é': {'description': ''}}}; main(['list'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert b"\n|\\xe9 " in done.stdout
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


def test_the_process_ends_without_looking_for_garbage():
    """A circle of references stays as it is; a collection would call the methods of its objects."""
    code = "import sys, mixnet_tf.commands.list_ as c; from mixnet_tf.cli import program\n"
    code += "class Circle:\n  def __init__(self): self.circle = self\n  def __del__(self): print('collected')\n"
    code += "def run(args):\n  Circle()\n  return 3\n"
    code += "c.run, sys.argv = run, ['mixnet-tf', 'list', '--json']; program()"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "3\n"


def test_module(capsys):
    done = subprocess.run([sys.executable, "-m", "mixnet_tf", "list"], capture_output=True, text=True)
    assert done.returncode == 0 and "mixnet_nano" in done.stdout and done.stderr == ""
