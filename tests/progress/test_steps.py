"""What a terminal shows while something works, and what it does not."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from terminal import Terminal, last_line

from mixnet_tf.progress import steps
from mixnet_tf.progress.volume import volume

BLOCKED = "import ctypes; from mixnet_tf.progress.steps import step\n"
BLOCKED += "with step('convert \\x1b[31m'): ctypes.PyDLL(None).usleep({microseconds})\n"
"""A step that keeps Python's lock, as TensorFlow's converter does."""

BAR = "import time; from mixnet_tf.progress.steps import counted\n"
BAR += "for _ in counted('ab', 'spell\\x1b', 2, 'letter'): time.sleep(1.2)\n"


def shown(code: str) -> str:
    return Terminal("-c", code).read()


def test_seconds_go_on_while_nothing_of_python_runs():
    text = shown(BLOCKED.format(microseconds=2_500_000))
    ticks = re.findall(r"\r\x1b\[K(convert [^\r]*)", text)
    assert ticks == [r"convert \x1b[31m", r"convert \x1b[31m [00:01]", r"convert \x1b[31m [00:02]"]
    assert last_line(text) == ""


def test_the_seconds_of_a_bar_go_on_while_a_part_works():
    text = shown(BAR)
    assert r"spell\x1b:   0%|" in text and "0/2 [00:01<" in text and "1/2 [00:0" in text
    assert last_line(text).strip() == ""


@pytest.mark.parametrize("code", [BLOCKED.format(microseconds=10), BAR.replace("1.2", "0")])
def test_nothing_is_shown_without_a_terminal(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


@pytest.mark.parametrize("code", [BLOCKED.format(microseconds=10), BAR.replace("1.2", "0")])
def test_quiet_and_verbose(code):
    code = "from mixnet_tf.progress.volume import volume; from mixnet_tf.progress.steps import line\n" + code
    head, work = code.rsplit("\n", 2)[0], code.rsplit("\n", 2)[1]
    assert shown(f"{head}\nwith volume(quiet=True):\n    line('said')\n    {work}") == ""
    text = shown(f"{head}\nwith volume(verbose=True):\n    line('said')\n    {work}")
    assert "said" in text and re.search(r"\r\x1b\[K\d\d:\d\d:\d\d (convert|spell)", text)


def test_the_outermost_step_is_the_one_that_is_shown():
    text = shown("from mixnet_tf.progress.steps import *\nwith step('outer'):\n  with step('inner'): line('stays')")
    assert text == "\r\x1b[Kouter\r\x1b[Kstays\r\n\r\x1b[K"


def test_a_step_that_ends_with_an_error_is_cleared_and_the_next_one_shown():
    code = (
        "from mixnet_tf.progress.steps import step\ntry:\n  with step('first'): 1 / 0\nexcept ZeroDivisionError: pass\n"
    )
    assert shown(code + "with step('second'): pass") == "\r\x1b[Kfirst\r\x1b[K\r\x1b[Ksecond\r\x1b[K"


def test_the_clock_does_not_outlive_its_step(tmp_path):
    """Nor its process: the terminal ends with the last one that holds it."""
    code = "import time; from mixnet_tf.progress.steps import step\nwith step('convert'): time.sleep(60)"
    terminal = Terminal("-c", code, start_new_session=True)
    time.sleep(1.5)
    os.kill(terminal.process.pid, signal.SIGKILL)
    start = time.monotonic()
    assert "convert [00:01]" in terminal.read() and time.monotonic() - start < 20


def test_a_clock_is_no_condition(monkeypatch, capsys):
    """Without a Python to start, the name must do."""
    monkeypatch.setattr(sys, "executable", "")
    with steps._clock("convert"):
        assert capsys.readouterr().err == "\r\x1b[Kconvert"


def test_this_library_has_the_function_that_blocks():
    assert ctypes.PyDLL(None).usleep(1) == 0


def test_a_long_step_says_a_line_now_and_then_where_no_terminal_is(monkeypatch, capsys):
    """In a log, silence looks like a process that hangs; the lines come ever more rarely."""
    monkeypatch.setattr(steps, "_REMIND", 0.2)
    with steps.step("convert"), steps.step("inside"):
        time.sleep(1.6)  # 0.2 + 0.4 + 0.8, and 1.6 to come
    assert re.fullmatch(r"(convert: at work for \d s\n){2,3}", capsys.readouterr().err)
    with steps.step("short"):
        pass
    with volume(quiet=True), steps.bar("quiet", 2, "part"):
        time.sleep(0.5)
    assert capsys.readouterr().err == ""
