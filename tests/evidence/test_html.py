"""``report.html`` from results that are made by hand: the numbers, and a page that is sound whatever it names."""

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mixnet_tf.errors import MixNetError
from mixnet_tf.evidence.benchmark import Latency
from mixnet_tf.evidence.classifier import Classifier
from mixnet_tf.evidence.comparison import compare_outputs
from mixnet_tf.evidence.diagnosis import BlockError
from mixnet_tf.evidence.evaluation import score, with_distance
from mixnet_tf.evidence.html import html_report
from mixnet_tf.evidence.mistakes import Confusion, Picture
from mixnet_tf.evidence.report import write_report
from mixnet_tf.evidence.results import ModelResult, Report
from mixnet_tf.evidence.starting import Start
from mixnet_tf.metrics import class_scores, count_confusion

VOID = {"meta", "br", "img", "link", "input", "hr"}
DRAWN = {"g", "path", "use", "text", "defs", "clippath", "rect"}
"""What plots are made of; how many, depends on the room that names leave for ticks."""
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="
LABELS = np.repeat([0, 1, 2], 400)
FILES = ("model.keras", "model_float32.tflite", "model_int8.tflite")
HOSTILE = (
    "<script>alert(1)</script>",
    "\" onload='x' style=\"",
    "</title></svg><img src=http://x/>",
    "{{ 7 * 7 }} {% raw %} ${x}",
    "&lt;b&gt; &amp; <b>",
    "\x1b[31m\u202e\x00two\nlines",
    "猫 कुत्ता كلب",
    "W" * 300,
    "$x_1$",
    "]]> <!-- -->",
)


def outputs(wrong: slice) -> np.ndarray:
    """Return outputs that take the images of a slice for the next class, and all others for their own."""
    predicted = LABELS.copy()
    predicted[wrong] = (predicted[wrong] + 1) % 3
    return np.eye(3)[predicted]


def named(path: str) -> Classifier:
    return Classifier(path, np.asarray, (24, 24), 3, "logits")


def made(names: tuple[str, ...] = ("cat", "dog", "elk"), files: tuple[str, ...] = FILES) -> tuple[Report, np.ndarray]:
    """Return a report on 1200 images, of which float32 takes 120 and int8 6 more for another class."""
    floats, int8 = outputs(slice(0, 120)), outputs(slice(0, 126))
    sizes = dict(zip(files, (9_000_000, 3_300_000, 1_000_000), strict=True))
    results = []
    for file, values, ratio in zip(files, (floats, floats, int8), (None, 1.0, 0.5), strict=True):
        evaluation = with_distance(score(file, "test", values, LABELS, names), values, "model.keras", floats)
        start = Start(path=file, start_ms=9.6, peak_bytes=19 * 2**20) if file == "model_int8.tflite" else None
        latency = Latency(path=file, min_ms=1.0, median_ms=4 * ratio, p95_ms=5.0, ratio=ratio) if ratio else None
        results.append(
            ModelResult(file=file, size_bytes=sizes[file], evaluation=evaluation, latency=latency, start=start)
        )
    confusion = count_confusion(int8.argmax(axis=1), LABELS, 3)
    report = Report(
        model=names[0],
        data=names[1],
        data_source=names[2],
        class_names=names,
        image_size=24,
        epochs=3,
        results=tuple(results),
        comparison=compare_outputs(named(files[1]), named(files[2]), floats, int8, LABELS, split="test"),
        classes=class_scores(confusion, names),
        confusions=(Confusion(true=names[0], predicted=names[1], count=126, share=0.315),),
        blocks=(BlockError(block=names[2], snr_db=31.27, lowest_db=20.5, outside=0.0123),),
        block_images=8,
        history={"accuracy": (0.1, None, 0.3), "val_accuracy": (0.2, 0.4, 0.375), "loss": (None, None, None)},
        best_epoch=1,
        notes=(names[0],),
        skipped_images=(names[1],),
    )
    return report, confusion


def page(report: Report, confusion: np.ndarray, pictures: tuple[Picture, ...] | None = None) -> "Page":
    if pictures is None:
        true, predicted = report.class_names[:2]
        pictures = (Picture(name=true, true=true, predicted=predicted, uri=PIXEL),)
    return Page(html_report(report, Path("a run"), confusion, pictures))


class Page(HTMLParser):
    """The elements of a page in order, (tag, attributes, text), with a check that each is closed where it belongs."""

    def __init__(self, text: str):
        super().__init__()
        self.text, self.elements, self.opened = text, [], []
        self.feed(text)
        self.close()
        assert not self.opened

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"<{tag}> has an attribute twice"
        element = [tag, dict(attributes), ""]
        self.elements.append(element)
        if tag not in VOID:
            self.opened.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self.opened.pop()[0] == tag

    def handle_data(self, data):
        for element in self.opened:
            element[2] += data

    def all(self, *tags: str) -> list[list]:
        return [element for element in self.elements if element[0] in tags]

    def texts(self, *tags: str) -> list[str]:
        return [" ".join(text.split()) for _, _, text in self.all(*tags)]

    def rows(self, heading: str) -> list[list[str]]:
        """Return the cells of the table whose box is named by a heading."""
        table = re.search(rf'aria-labelledby="{heading}">\s*<table(.*?)</table>', self.text, re.DOTALL)[1]
        return [Page(row).texts("th", "td") for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)]


@pytest.fixture(scope="module")
def report_and_confusion() -> tuple[Report, np.ndarray]:
    return made()


@pytest.fixture(scope="module")
def shown(report_and_confusion) -> Page:
    return page(*report_and_confusion)


def test_the_numbers_stand_where_they_belong(shown):
    header, *rows = shown.rows("files")
    assert header[:7] == ["file", "size, MB", "top-1", "95 % interval", "top-5", "agreement", "SNR, dB"]
    assert [row[:7] for row in rows] == [
        ["model.keras", "9.00", "90.00%", "88.2% to 91.6%", "100.00%", "100.00%", "exact"],
        ["model_float32.tflite", "3.30", "90.00%", "88.2% to 91.6%", "100.00%", "100.00%", "exact"],
        ["model_int8.tflite", "1.00", "89.50%", "87.6% to 91.1%", "100.00%", "99.50%", "20.0"],
    ]
    assert header[7:] == ["latency, ms", "time ratio", "first result, ms", "memory, MiB"]
    assert [row[7:] for row in rows] == [["–"] * 4, ["4.00", "1.00", "–", "–"], ["2.00", "0.50", "9.60", "19.0"]]
    assert shown.rows("classes")[1:] == [  # 400 of the 526 that are taken for a dog are dogs
        ["cat", "400", "100.0%", "68.5%", "81.3%"],
        ["dog", "400", "76.0%", "100.0%", "86.4%"],
        ["elk", "400", "100.0%", "100.0%", "100.0%"],
    ]
    assert shown.rows("matrix")[1:] == [["cat", "274", "126", "0"], ["dog", "0", "400", "0"], ["elk", "0", "0", "400"]]
    assert shown.rows("blocks")[1:] == [["elk", "31.3", "20.5", "1.23%"]]
    assert shown.texts("dd")[:8] == [
        *("89.5%", "float32: 90.0%", "1.00 MB", "float32: 3.30 MB"),
        *("2.00 ms", "float32: 4.00 ms", "99.5%", "same class as model.keras"),
    ]
    assert "cat taken for dog: 126 (31.5% of its images)" in shown.texts("li")


def test_the_verdict_comes_first_and_its_numbers_are_told(shown):
    """A loss of 7 - 1 in 1202, and 1.96 times the root of (8 - 36 / 1202) / 1202 / 1202 to either side."""
    low, high = (6 / 12.02 + 1.96 * sign * (8 - 36 / 1202) ** 0.5 / 12.02 for sign in (-1, 1))
    sentence = "Ship model_int8.tflite: 0.5 points less accurate (0.0 to 1.0), 3.3 times smaller and 2.0 times faster "
    assert shown.texts("h1", "h2")[:2] == ["cat on dog", "Verdict"]
    assert shown.texts("p")[1:3] == [
        f"{sentence}than float32.",
        "In float32 the network is right on 90.0% of 1,200 test images.",
    ]
    (compared,) = (text for text in shown.texts("p") if text.startswith("Of 1,200"))
    assert compared == (
        "Of 1,200 test images, 6 are right in float32 only and 0 in int8 only. That is a loss of 0.50 points (95 % "
        f"interval {low:.2f} to {high:.2f}). McNemar’s p is 0.03."  # 2 / 64
    )
    (chosen,) = (text for tag, attributes, text in shown.all("tr") if attributes.get("class") == "chosen")
    assert chosen.startswith("model_int8.tflite")


def test_the_page_ends(shown):
    """A killed pipeline never leaves half of one: `tests/fuzz/kill.py` looks for the end."""
    assert shown.text.startswith("<!doctype html>\n") and shown.text.endswith("</html>\n")


def test_how_it_was_measured(shown, report_and_confusion):
    report, _ = report_and_confusion
    facts = dict(zip(shown.texts("dt"), shown.texts("dt", "dd"), strict=False)).keys()
    assert {"Date", "Processor", "Data", "Note", "Skipped images", *report.environment} <= facts
    assert {report.date, report.processor, "elk, test split", "1 that cannot be read: dog"} <= set(shown.texts("dd"))
    assert shown.texts("code") == list(report.commands(Path("a run")).values())


def test_terms_are_explained(shown):
    explained = " ".join(shown.texts("p"))
    terms = ("Top-1", "top-5", "95 % interval", "Agreement", "SNR", "Latency", "McNemar", "Precision", "Recall", "F1")
    assert all(f"{term}:" in explained for term in terms)


def check_sound(shown: Page) -> None:
    """Nothing runs, nothing is fetched, and a reader without eyes or mouse finds the way."""
    assert not shown.all("script", "link", "iframe", "object", "embed", "form", "base")
    for tag, attributes, _ in shown.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), tag
    (style,) = shown.texts("style")
    assert "url(" not in style and "@import" not in style
    policy = next(attributes for _, attributes, _ in shown.all("meta") if "http-equiv" in attributes)
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert shown.elements[0][1] == {"lang": "en"} and shown.texts("title")[0]
    levels = [int(tag[1]) for tag, *_ in shown.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    headings = [attributes["id"] for _, attributes, _ in shown.all("h2")]
    assert all(attributes.get("aria-labelledby", "verdict") in headings for _, attributes, _ in shown.elements)
    names = [attributes["id"] for tag, attributes, _ in shown.elements if "id" in attributes and tag != "path"]
    assert set(headings) <= set(names) and len({*headings}) == len(headings)
    assert all(attributes.get("alt") for _, attributes, _ in shown.all("img"))
    assert all(attributes["role"] == "img" and attributes["aria-label"] for _, attributes, _ in shown.all("svg"))
    assert all(attributes.get("scope") in ("row", "col") for _, attributes, _ in shown.all("th"))
    boxes = [attributes for _, attributes, _ in shown.all("div") if attributes.get("class") == "scroll"]
    assert len(boxes) == len(shown.all("table")) and all(box["tabindex"] == "0" for box in boxes)


def test_a_page_is_sound(shown):
    check_sound(shown)
    assert len(shown.all("svg")) == 5 and len(shown.all("img")) == 1  # accuracy, three of the files, blocks


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_whatever_they_hold(shown, name):
    """The elements are those of the page with tame names, and every name can be read."""
    names = tuple(name + end for end in ("", "b", "c"))
    files = tuple(name.replace("/", "") + end for end in (".keras", "_1.tflite", "_2.tflite"))
    hostile = page(*made(names, files))
    check_sound(hostile)
    elements, expected = ([tag for tag, *_ in made.elements if tag not in DRAWN] for made in (hostile, shown))
    assert elements == expected
    text = hostile.text
    assert "\x1b" not in text and "\u202e" not in text and "\x00" not in text
    written = name.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e").replace("\x00", r"\x00").replace("\n", r"\n")
    if len(name) < 40:
        assert hostile.rows("classes")[1][0] == " ".join(written.split())
    else:
        assert hostile.rows("classes")[1][0] == f"{'W' * 20}…{'W' * 19}"
        titles = [attributes.get("title") for _, attributes, _ in hostile.all("bdi")]
        assert set(names) <= set(titles)  # the whole name, for those who ask


def test_a_thousand_classes():
    names = tuple(f"class {i}" for i in range(1000))
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(1000), 3)
    predicted = np.where(labels < 30, rng.integers(0, 1000, 3000), labels)
    confusion = count_confusion(predicted, labels, 1000)
    report = dataclasses.replace(made()[0], class_names=names, classes=class_scores(confusion, names))
    shown = page(report, confusion, ())
    check_sound(shown)
    rows = shown.rows("classes")[1:]
    assert len(rows) == 20 and {int(row[0].split()[1]) for row in rows} <= set(range(30))
    assert "The 20 weakest are shown; 980 classes are left out. report.json has them all." in shown.texts("p")
    assert "What is taken for what" not in shown.texts("h2")  # a thousand columns help nobody
    assert len(shown.text) < 150_000


def test_many_blocks_and_many_skipped_images():
    blocks = tuple(BlockError(block=f"b{i}", snr_db=50.0 - i, lowest_db=1.0, outside=0.0) for i in range(30))
    skipped = tuple(f"{i}.jpg" for i in range(2000))
    report, confusion = made()
    shown = page(dataclasses.replace(report, blocks=blocks, skipped_images=skipped), confusion)
    assert [row[0] for row in shown.rows("blocks")[1:]] == [f"b{i}" for i in range(10, 30)]  # in their order
    assert (
        "The 20 blocks with the largest error are shown, in the order of the network; 10 are left out."
        in shown.texts("p")
    )
    (listed,) = (text for text in shown.texts("dd") if "cannot be read" in text)
    assert listed.startswith("2,000 that cannot be read: 0.jpg, 1.jpg") and listed.endswith("19.jpg, and 1,980 more")


def test_what_is_missing_is_left_out():
    report, confusion = made()
    nothing = {"comparison": None, "classes": (), "confusions": (), "blocks": (), "history": {}, "best_epoch": None}
    results = tuple(dataclasses.replace(result, latency=None) for result in report.results)
    shown = page(dataclasses.replace(report, **nothing, results=results), confusion, ())
    check_sound(shown)
    assert shown.texts("h2") == ["Verdict", "The files", "What is taken for what", "How this was measured"]
    assert "Not decided: int8 and float32 were not compared on the same images." in shown.texts("p")


def test_a_lost_accuracy_comes_with_the_command_against_it():
    report, confusion = made()
    compared = dataclasses.replace(report.comparison, only_a_right=60, only_b_right=0)
    shown = page(dataclasses.replace(report, comparison=compared), confusion)
    assert shown.texts("p")[1].startswith("Ship model_float32.tflite for now: int8 loses 5.0 points of accuracy (")
    assert shown.texts("code")[-1] == (
        "mixnet-tf export 'a run/model.keras' --recipe int8_mixed --data elk --on-bad-image skip "
        "--output 'a run/model_int8_mixed.tflite'"
    )


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "report.md").write_text("an earlier one")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(MixNetError, match=r"report\.html: is a folder"):
        write_report(*made()[:1], tmp_path, made()[1])
    assert (tmp_path / "report.md").read_text() == "an earlier one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md"]
