"""Reports from results that are made by hand: every number stands where it belongs."""

import dataclasses
import json
import os
import shlex
import struct
import subprocess
import sys

import numpy as np
import pytest
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from mixnet_tf.environment import environment, processor
from mixnet_tf.evidence.benchmark import Latency
from mixnet_tf.evidence.evaluation import Evaluation
from mixnet_tf.evidence.mistakes import Confusion
from mixnet_tf.evidence.report import markdown_report, markdown_table, write_report
from mixnet_tf.evidence.results import ModelResult, Report
from mixnet_tf.evidence.starting import Start
from mixnet_tf.metrics import ClassScore

FLOAT = Evaluation(
    model="run/model.keras", split="test", count=8, top1=0.875, top5=1.0, per_class={"cat": 1.0, "dog": 0.75}
)
INT8 = Evaluation(
    model="run/model_int8.tflite",
    split="test",
    count=8,
    top1=0.75,
    top5=0.975,
    per_class={"cat": 0.5, "dog": 1.0},
    reference="run/model.keras",
    agreement=0.625,
    snr_db=31.26,
)
START = Start(path="run/model_int8.tflite", start_ms=9.6, peak_bytes=19 * 2**20)
LATENCY = Latency(path="run/model_int8.tflite", min_ms=1.0, median_ms=1.255, p95_ms=2.0, ratio=0.514)
REPORT = Report(
    model="tiny",
    data="pets",
    data_source="my pets",
    class_names=("cat", "dog"),
    image_size=24,
    epochs=3,
    results=(
        ModelResult(file="model.keras", size_bytes=1_234_000, evaluation=FLOAT),
        ModelResult(file="model_int8.tflite", size_bytes=98_760, evaluation=INT8, latency=LATENCY, start=START),
    ),
    classes=(
        ClassScore(name="cat", count=4, precision=1.0, recall=0.5, f1=2 / 3),
        ClassScore(name="dog", count=4, precision=2 / 3, recall=1.0, f1=0.8),
    ),
    confusions=(Confusion(true="cat", predicted="dog", count=2, share=0.5),),
)
CONFUSION = np.array([[2, 2], [0, 4]])


@pytest.fixture
def written(tmp_path):
    """The folder of a report, whose name has a space."""
    folder = tmp_path / "a run"
    folder.mkdir()
    return folder


def markdown(report: Report, folder) -> str:
    return markdown_report(report, folder)


def test_table_by_hand():
    exact = dataclasses.replace(INT8, agreement=1.0, snr_db=None)
    results = (*REPORT.results, ModelResult(file="same.tflite", size_bytes=0, evaluation=exact, latency=LATENCY))
    assert markdown_table(results) == [
        "| file | size | top-1 | top-5 | agreement | SNR | median latency | ratio | first result | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
        "| model.keras | 1.23 MB | 87.50% | 100.00% |  |  |  |  |  |  |",
        "| model_int8.tflite | 0.10 MB | 75.00% | 97.50% | 62.50% | 31.3 dB | 1.25 ms | 0.51 | 10 ms | 19.0 MiB |",
        "| same.tflite | 0.00 MB | 75.00% | 97.50% | 100.00% | exact | 1.25 ms | 0.51 |  |  |",
    ]


def test_markdown(written):
    lines = markdown(REPORT, written).splitlines()
    assert lines[0] == "# tiny on pets"
    assert lines[2] == "3 epochs at 24 px, 2 classes, 8 test images."
    assert set(markdown_table(REPORT.results)) <= set(lines)
    assert "Weakest class in model_int8.tflite: cat (50.0%)." in lines
    assert {"![confusion](confusion.png)", "![latency](latency.png)"} <= set(lines)
    assert all(f"| {name} | {version} |" in lines for name, version in environment().items())
    assert "Not decided: int8 and float32 were not compared on the same images." in lines
    assert "skipped" not in "\n".join(lines) and "chose the best epoch" not in "\n".join(lines)
    assert lines[-1] == f"{REPORT.date}, {processor()}"


def test_commands_that_measure_again(written):
    """What stands between backticks is what a shell understands, file names with spaces included."""
    text = markdown(REPORT, written)
    commands = [shlex.split(line.split("`")[1]) for line in text.splitlines() if "`mixnet-tf" in line]
    folder = str(written)
    assert commands == [
        ["mixnet-tf", "compare", f"{folder}/model.keras", f"{folder}/FILE", "--data", "my pets"],
        ["mixnet-tf", "benchmark", f"{folder}/model_int8.tflite"],
    ]


def test_what_the_reader_should_know(written):
    notes = ("calibrated on 3 images", "tensor 'x' never changes")
    report = dataclasses.replace(REPORT, test_is_val=True, skipped_images=("a.jpg", "b.jpg"), notes=notes)
    text = markdown(report, written)
    assert "The data has no test split: its val stood in, which also chose the best epoch" in text
    assert all(f"Note: {note}." in text for note in notes)
    assert text.endswith("2 unreadable images were skipped:\n\n- a.jpg\n- b.jpg\n")
    assert "--data 'my pets' --on-bad-image skip`" in text
    text = markdown(dataclasses.replace(REPORT, pixel_range="0..1"), written)
    assert "--data 'my pets' --pixel-range 0..1`" in text


NAMES = (
    "<script>alert(1)</script>",
    "a|b",
    "*bold*",
    "_x_",
    "[text](http://x)",
    "![p](x.png)",
    "`code`",
    "\x1b[31mred",
    "two\nlines",
    "# title",
    "&amp;",
    "back\\slash",
    "snow_man ☃",
    "- item",
    "1. one",
    "~~gone~~",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(written, name):
    """A Markdown renderer finds each name as text where it belongs, and no markup that it brought along."""
    shown = name.replace("\x1b", "\\x1b").replace("\n", "\\n")
    reference, int8 = (dataclasses.replace(result, file=name) for result in REPORT.results)
    report = dataclasses.replace(
        REPORT,
        model=name,
        data=name,
        data_source=name,
        results=(reference, int8),
        classes=(dataclasses.replace(REPORT.classes[0], name=name),),
        skipped_images=(name,),
        notes=(name,),
    )
    tree = SyntaxTreeNode(MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown(report, written)))
    nodes = list(tree.walk())
    kinds = {node.type for node in nodes}
    assert not kinds & {"html_block", "html_inline", "strong", "em", "link", "s"}
    assert [node.attrs["src"] for node in nodes if node.type == "image"] == ["confusion.png", "latency.png"]
    texts = [
        "".join(text.content for text in node.walk() if text.type == "text") for node in nodes if node.type == "inline"
    ]
    assert texts[0] == f"{shown} on {shown}"
    assert texts.count(shown) == 3  # two rows of the table, and the skipped image
    assert f"Weakest class in {shown}: {shown} (50.0%)." in "".join(texts)
    assert f"Note: {shown}." in "".join(texts)
    commands = [node.content for node in nodes if node.type == "code_inline"]
    assert len(commands) == 2 and shlex.quote(name).replace("\x1b", "\\x1b").replace("\n", "\\n") in commands[0]


def test_json_holds_everything(written):
    write_report(REPORT, written, CONFUSION)
    content = json.loads((written / "report.json").read_text())
    verdict = dataclasses.asdict(REPORT.verdict)
    assert content == json.loads(json.dumps(dataclasses.asdict(REPORT) | {"verdict": verdict}))
    assert content["results"][1]["evaluation"]["snr_db"] == 31.26 and content["results"][0]["latency"] is None
    assert content["environment"] == environment()
    keys = "model data data_source class_names image_size epochs results test_is_val skipped_images notes pixel_range"
    keys += " comparison classes confusions blocks block_images history best_epoch date processor environment verdict"
    assert list(content) == keys.split()


def png_size(path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR"
    return struct.unpack(">II", content[16:24])


def test_plots(written):
    write_report(REPORT, written, CONFUSION)
    assert (written / "report.md").read_text(encoding="utf-8") == markdown(REPORT, written)
    assert sorted(path.name for path in written.iterdir()) == [
        "confusion.png",
        "latency.png",
        "report.html",
        "report.json",
        "report.md",
    ]
    width, height = png_size(written / "confusion.png")
    assert width == pytest.approx(5.6 * 120, abs=1) and height == pytest.approx(4.6 * 120, abs=1)
    assert png_size(written / "latency.png") == pytest.approx((7 * 120, 1.8 * 120), abs=1)


@pytest.mark.slow
def test_class_names_that_plots_stumble_over(written):
    """A formula, an underscore, a script that the font lacks; and more classes than have room for names."""
    names = ("$x_1$", "猫", "_dog")
    report = dataclasses.replace(REPORT, class_names=names)
    write_report(report, written, np.eye(3, dtype=int))
    many = tuple(str(i) for i in range(31))
    write_report(dataclasses.replace(REPORT, class_names=many), written, np.eye(31, dtype=int))
    assert png_size(written / "confusion.png")[0] == pytest.approx((1 + 4 + 0.3 * 31) * 120, abs=1)


def test_confusion_shares_are_of_the_true_class(written, monkeypatch):
    from mixnet_tf.evidence import report as module

    figures = []
    monkeypatch.setattr(module, "save_figure", lambda figure, path: (figures.append(figure), path.write_bytes(b"")))
    write_report(REPORT, written, CONFUSION)
    axes = figures[0].axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.5, 0.5], [0, 1]])
    assert [(text.get_position(), text.get_text()) for text in axes.texts] == [
        ((0, 0), "2"),
        ((1, 0), "2"),
        ((1, 1), "4"),
    ]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("predicted", "true", "model_int8.tflite")
    (bar,) = figures[1].axes[0].patches
    assert bar.get_width() == 1.255


def test_a_home_that_cannot_be_written_is_no_matter(tmp_path):
    """Matplotlib wants to keep its fonts there, and says so on the terminal."""
    code = "import sys; from pathlib import Path; from mixnet_tf.evidence.figures import new_figure, save_figure\n"
    code += "save_figure(new_figure(1, 1)[0], Path(sys.argv[1]))"
    nowhere = dict.fromkeys(("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "/dev/null/x")
    command = [sys.executable, "-c", code, str(tmp_path / "f.png")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | nowhere)
    assert done.returncode == 0 and done.stderr == "" and (tmp_path / "f.png").is_file()
