"""Native chatter is kept from results and from the terminal; what a program writes itself arrives where it belongs."""

import os
import subprocess
import sys

import pytest

WRITES = "import os, sys; from mixnet_tf.quiet import output_as_errors, quiet\n"


def run(code: str, closed: str = "") -> tuple[bytes, bytes]:
    command = [sys.executable, "-c", WRITES + code]
    if closed:
        command = ["bash", "-c", f'"$@" {closed}', "bash", *command]
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, capture_output=True, check=True, env=buffered)
    return done.stdout, done.stderr


def test_native_output_goes_to_standard_error_and_a_result_before_it_does_not():
    code = "print('result')\nwith output_as_errors(): os.write(1, b'chatter')\nprint('more')"
    assert run(code) == (b"result\nmore\n", b"chatter")


def test_native_errors_are_discarded_and_those_before_and_after_are_not():
    code = "sys.stderr.write('a')\nwith quiet(): os.write(2, b'chatter')\nsys.stderr.write('b')"
    assert run(code) == (b"", b"ab")


@pytest.mark.skipif(sys.platform == "win32", reason="no bash")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_service_without_output_or_errors_runs(closed):
    run("with output_as_errors(), quiet(): pass\nopen(os.devnull).close()", closed)
