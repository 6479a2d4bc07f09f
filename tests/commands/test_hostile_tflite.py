"""Files that would end the process, or write to the terminal what they like."""

import json

import pytest
from ai_edge_litert import schema_py_generated as schema
from command_line import refused

from mixnet_tf.cli import main
from mixnet_tf.guard.trial import Trial
from mixnet_tf.litert.packing import pack

HOSTILE = "a\x1b[31mb\nc\u202e"
ESCAPED = r"a\x1b[31mb\nc\u202e"


def test_names_are_printed_on_one_line_and_escaped(fixtures, tmp_path, capsys):
    model = schema.ModelT.InitFromPackedBuf((fixtures / "tiny" / "classifier.tflite").read_bytes(), 0)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = HOSTILE.encode()
    path = tmp_path / "hostile.tflite"
    path.write_bytes(pack(model))
    assert main(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum(ESCAPED in line for line in lines) == 2  # input and output
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"][0]["name"] == HOSTILE


def test_an_operator_that_litert_lacks_is_named_on_one_line(fixtures, tmp_path, capsys):
    model = schema.ModelT.InitFromPackedBuf((fixtures / "odd" / "custom_op.tflite").read_bytes(), 0)
    model.operatorCodes[0].customCode = HOSTILE.encode()
    path = tmp_path / "custom.tflite"
    path.write_bytes(pack(model))
    line = refused(capsys, "inspect", path)
    assert line.isprintable() and r"unresolved custom op: a\x1b[31mb" in line


@pytest.mark.parametrize("command", ["benchmark", "evaluate", "compare"])
def test_a_file_that_litert_crashes_on_is_one_line(command, fixtures, few_digits, capsys):
    path = fixtures / "ops" / "float32_depthwise_without_bias.tflite"
    arguments = {
        "benchmark": [path],
        "evaluate": [path, "--data", few_digits],
        "compare": [fixtures / "nano_int8.tflite", path, "--data", few_digits],
    }
    line = refused(capsys, command, *arguments[command])
    assert f"{path}: LiteRT's runtime crashes on it (signal SIG" in line


def test_what_is_printed_before_a_crash_is_not_lost(fixtures, capsys):
    """`inspect` lists what LiteRT loads, although it crashes when it runs."""
    assert main(["inspect", str(fixtures / "ops" / "float32_depthwise_without_bias.tflite"), "--ops"]) == 0
    assert "convolution without a bias" in capsys.readouterr().out


def test_a_quantized_export_is_tried_as_it_will_be_calibrated(fixtures, few_digits, tmp_path, capsys, monkeypatch):
    tried = []
    monkeypatch.setattr(Trial, "run", lambda trial, content, where, **settings: tried.append(settings))
    path = fixtures / "tiny" / "classifier.tflite"
    output = ["--output", tmp_path / "x.tflite", "--data", few_digits, "--images", "2", "--input", "fractions"]
    assert main(["export", *map(str, [path, "--recipe", "int8", *output])]) == 0
    kinds = [(settings["resolver"], settings["keep_tensors"], settings["only_load"]) for settings in tried]
    assert kinds == [("AUTO", False, False), ("BUILTIN_WITHOUT_DEFAULT_DELEGATES", True, False)]
