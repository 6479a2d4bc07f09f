"""What is handed over: a bundle, damaged where hashes tell and where they do not, and what people read of a file."""

import contextlib
import functools
import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from mixnet_tf.bundles.making import bundle
from mixnet_tf.litert.attachments import with_attachments
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.metadata import entry, set_entry
from mixnet_tf.litert.packing import pack
from mixnet_tf.litert.runtime import LiteModel
from tests.fuzz.cases import Case
from tests.fuzz.mutations import damaged, damaged_zip
from tests.fuzz.readers.yaml_files import change

NANO = Path(__file__).resolve().parents[2] / "fixtures" / "nano_mobile.tflite"
_CLASSES, _SIDE = 10, 32
_ENTRIES = ("TFLITE_METADATA", "mixnet_tf.input_format", "mixnet_tf.crop_fraction")
_TEXTS = (
    b"",
    b"0",
    b"1",
    b"nan",
    b"-1",
    b"1e-9",
    b"1e999",
    b"0.5 ",
    b"\xff",
    b"\xd9\xa0",
    b"pixels",
    b"signed",
    b"x" * 5000,
)
_LABELS = (
    *(b"", b"\n" * 10, b"a\n" * 10, b"a\n" * 11, b"\x1b[31m\n" * 10, b"\xff\n" * 10, b"\xef\xbb\xbfa\n" * 10),
    *(b"a\r" * 10, "\u2028".join("abcdefghij").encode(), "\u202e\n".encode() * 10, b"\0\n" * 10, b"x" * 99999),
)


@functools.cache
def _whole() -> Path:
    """Make a bundle with the process' first case that needs it."""
    pixels = np.random.default_rng(0).integers(0, 256, (2 * _CLASSES, _SIDE, _SIDE, 3), np.uint8)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-bundle-")) / "bundle"
    with contextlib.redirect_stderr(io.StringIO()):  # the progress of this is no case's
        bundle(NANO, folder, data=(pixels, np.arange(2 * _CLASSES) % _CLASSES))
    return folder


def verify(random: Random, folder: Path) -> Case:
    """Check a bundle with one damaged file, the manifest as a value too; its hash may be right again."""
    bundle = Path(shutil.copytree(_whole(), folder / "bundle"))
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    hit = random.choice(("manifest", "manifest", "value", "value", "value", "file", "file", "file"))
    if hit == "manifest":
        path.write_bytes(damaged(random, path.read_bytes()))
    elif hit == "value":
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            change(random, manifest)
        path.write_text(json.dumps(manifest))
    else:
        name = random.choice(("model.tflite", *manifest["files"]))
        content = damaged(random, (bundle / name).read_bytes())
        (bundle / name).write_bytes(content)
        if random.random() < 0.5:
            manifest["files"][name]["sha256"] = hashlib.sha256(content).hexdigest()
            path.write_text(json.dumps(manifest))
    return Case(["verify", str(bundle), *(["--json"] * random.randrange(2))], lambda output: _wrong_bundle(bundle))


def _wrong_bundle(folder: Path) -> str | None:
    """Check an accepted bundle once more, by its manifest alone."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, record in manifest["files"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != record["sha256"]:
            return f"{name} is another file"
    if manifest["image_size"] != [_SIDE, _SIDE] or not 0 < manifest["crop_fraction"] <= 1 or not manifest["goldens"]:
        return "a manifest that is none"
    model, most = LiteModel(folder / "model.tflite"), manifest["tolerances"]["model.tflite"]["litert"]
    for golden in manifest["goldens"]:
        pixels = np.fromfile(folder / golden["image"], np.uint8).reshape(1, _SIDE, _SIDE, 3)
        expected = np.fromfile(folder / golden["model.tflite"], "<f4")
        if expected.shape != (_CLASSES,) or not np.abs(model(pixels)[0] - expected).max() <= most < np.inf:
            return f"{golden} is not met"
    return None


def _archive(random: Random) -> bytes:
    """Return a file whose archive, labels or metadata are damaged; the network itself is whole."""
    content, graph = NANO.read_bytes(), FlatGraph.read(NANO)
    files = dict(graph.attachments)
    match random.choice(("archive", "zip", "labels", "files", "metadata", "metadata", "entry", "entry")):
        case "archive":
            end = content.index(b"PK\3\4")
            return content[:end] + damaged(random, content[end:])
        case "zip":
            return pack(graph.model) + damaged_zip(random, with_attachments(b"", files))
        case "labels":
            files["labels.txt"] = random.choice((*_LABELS, damaged(random, files["labels.txt"])))
        case "files":
            name = random.choice(
                ("labels.txt", "../labels.txt", "/etc/labels.txt", "LABELS.TXT", "a\n\x1b[31m.txt", "")
            )
            files = {name: files["labels.txt"], **({"labels.txt": b"x"} if random.random() < 0.3 else {})}
        case "metadata":
            set_entry(graph.model, _ENTRIES[0], damaged(random, entry(graph.model, _ENTRIES[0])))
        case "entry":
            set_entry(graph.model, random.choice(_ENTRIES), random.choice((None, *_TEXTS)))
    return with_attachments(pack(graph.model), files)


def archive(random: Random, folder: Path) -> Case:
    """Read a file with damage in what only people and their programs read of it, and name a picture with it."""
    path, picture = folder / "model.tflite", folder / "picture.png"
    path.write_bytes(_archive(random))
    if random.random() < 0.5:
        return Case(["inspect", str(path), "--json"], lambda output: _wrong_labels(json.loads(output)["labels"], path))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(picture)
    return Case(["predict", str(path), str(picture), "--top", "10", "--json"], lambda output: _wrong_rows(output, path))


def _wrong_labels(labels: list[str] | None, path: Path) -> str | None:
    """Look for the labels among the texts of the archive, as zipfile reads it."""
    if labels is None:
        return None
    with zipfile.ZipFile(path) as file:
        texts = [file.read(name).decode(errors="replace").splitlines() for name in file.namelist()]
    return None if labels in texts and len(labels) == _CLASSES else f"labels {labels} that are nowhere in the file"


def _wrong_rows(output: str, path: Path) -> str | None:
    (picture,) = json.loads(output)
    rows: list[dict[str, Any]] = sorted(picture["predictions"], key=lambda row: row["index"])
    if [row["index"] for row in rows] != list(range(_CLASSES)) or abs(
        sum(row["probability"] for row in rows) - 1
    ) > 0.01:
        return f"no probabilities of {_CLASSES} classes"
    labels = [row["label"] for row in rows]
    return None if labels == [str(i) for i in range(_CLASSES)] else _wrong_labels(labels, path)


READERS = {"bundle": verify, "tflite-archive": archive}
