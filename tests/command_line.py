"""Commands, run in this process."""

import json
import re
from typing import Any

from mixnet_tf.cli import COMMANDS, main


def results(capsys, *arguments: object) -> Any:
    """Run a command that must succeed; return what ``--json`` prints."""
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def shown(capsys, name: str, result: Any) -> str:
    """Return what a command prints for readers, given the result that it prints as JSON."""
    COMMANDS[name].show(result)
    output = capsys.readouterr().out
    assert r"\n" not in output  # a line break of ours that was taken for one in a name
    return output


def refused(capsys, *arguments: object) -> str:
    """Run a command that must fail; return its one line."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as error:  # argparse's own way out
        status = error.code
    captured = capsys.readouterr()
    assert status == 2 and captured.out == ""
    *progress, line = re.split("[\r\n]+", captured.err.strip())
    assert not any("Traceback" in text for text in progress)
    assert line.startswith("mixnet-tf")
    return line
