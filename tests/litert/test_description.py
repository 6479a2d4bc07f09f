"""Metadata and labels inside a file: written, read again, kept, and damaged."""

import io
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from marks import slow

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.attachments import with_attachments
from mixnet_tf.litert.description import About, about_of, describe, labels_of, normalization_of
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.front import lite_front
from mixnet_tf.litert.metadata import crop_fraction, entry, set_entry
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.litert.runtime import LiteModel

ABOUT = About(name="sorter", description="sorts", version="1.2", author="Ada", license="MIT")
LABELS = (*(f"digit {i}" for i in range(9)), "Jürgen, 猫")


@pytest.fixture
def described(nano_float32) -> FlatGraph:
    graph = FlatGraph.read(nano_float32)
    describe(graph, ABOUT, LABELS)
    return graph


def test_what_is_written_is_read_again_and_nothing_else_changes(described, nano_float32, tmp_path):
    path = tmp_path / "f.tflite"
    path.write_bytes(described.content())
    table, images = inspect_model(path), np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    assert (table.about, table.labels) == (ABOUT, LABELS)
    np.testing.assert_array_equal(LiteModel(path)(images), LiteModel(nano_float32)(images))


def test_the_labels_lie_uncompressed_and_undated_where_any_reader_finds_them(described):
    with zipfile.ZipFile(io.BytesIO(described.content())) as archive:
        (info,) = archive.infolist()
        assert (info.filename, info.compress_type, info.date_time[0]) == ("labels.txt", zipfile.ZIP_STORED, 1980)
        assert archive.read(info).decode() == "\n".join(LABELS) + "\n"
    assert "\n".join(LABELS).encode() in described.content()


def test_the_same_bytes_every_time(described, nano_float32):
    again = FlatGraph.read(nano_float32)
    describe(again, ABOUT, LABELS)
    assert again.content() == described.content()
    describe(again, About(name="other"), None)
    assert labels_of(again) is None and about_of(again) == About(name="other")
    describe(again, ABOUT, LABELS)  # once more: nothing is left of the one before
    assert again.content() == described.content()


def test_what_is_not_said_again_stays():
    assert About(version="2").over(ABOUT) == About(
        name="sorter", description="sorts", version="2", author="Ada", license="MIT"
    )


def test_labels_are_those_of_a_classifier(nano_float32):
    """Others have files with names, too: of what a detector finds, say."""
    graph = FlatGraph.read(nano_float32)
    describe(graph, ABOUT, LABELS[:3])
    with pytest.raises(DeployError, match="holds 3 labels for 10 classes"):
        labels_of(graph)
    graph.append("RESHAPE", "boxes", type=schema.TensorType.FLOAT32)
    graph.tensors[graph.outputs[0]].shape = np.array([1, 5, 2], np.int32)
    assert labels_of(graph) is None


@pytest.mark.parametrize(("text", "fraction"), [(b"0.5", 0.5), (b"1", 1), (b"0.01", 0.01), (None, 0.875)])
def test_a_file_says_how_much_of_a_picture_it_wants(text, fraction, nano_float32):
    graph = FlatGraph.read(nano_float32)
    set_entry(graph.model, "mixnet_tf.crop_fraction", text)
    assert crop_fraction(graph.model, graph.where) == fraction


@pytest.mark.parametrize("text", [b"1e-9", b"2", b"nan", b"", b"half", b"\xff"])
def test_a_crop_that_cannot_be_is_refused(text, nano_float32):
    graph = FlatGraph.read(nano_float32)
    set_entry(graph.model, "mixnet_tf.crop_fraction", text)
    with pytest.raises(DeployError, match=r"tflite: its crop fraction is '.*', expected a number from 0.01 to 1"):
        crop_fraction(graph.model, graph.where)


def test_a_copy_that_is_changed_keeps_them(described):
    graph = FlatGraph(described.content()).copy()
    graph.append("LOGISTIC", "scores", type=schema.TensorType.FLOAT32)
    again = FlatGraph(graph.content())
    assert (about_of(again), labels_of(again)) == (ABOUT, LABELS)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("pixels", [0], [1]),
        ("fractions", [0], [255]),
        ("signed", [127.5], [127.5]),
        ("normalized", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),  # ImageNet's, of torchvision
    ],
)
def test_the_input_is_described_as_readers_expect(name, mean, std, nano_float32):
    """(pixel - mean) / std; a reader that knows nothing of this package finds the format in it."""
    graph = FlatGraph.read(nano_float32)
    graph.input_format = name
    describe(graph, ABOUT, None)
    for number, wanted in zip(normalization_of(graph), (mean, std), strict=True):
        np.testing.assert_allclose(number, np.broadcast_to(wanted, 3), rtol=1e-6)
    graph.input_format = None
    assert lite_front(graph).input_format == name


def test_another_number_of_labels_is_refused(described):
    described.attachments["labels.txt"] = b"a\nb\n"
    with pytest.raises(DeployError, match="holds 2 labels for 10 classes"):
        labels_of(described)


def test_labels_that_are_no_text(described):
    described.attachments["labels.txt"] = b"\xff\n" * 10
    with pytest.raises(DeployError, match="its labels are no UTF-8 text"):
        labels_of(described)


def test_damaged_metadata_is_one_line_or_harmless(described):
    """Every byte of it in turn; what can still be read may be wrong, but never an error of another kind."""
    content = entry(described.model, "TFLITE_METADATA")
    for position in range(len(content)):
        for value in (0x00, 0x7F, 0xFF):
            damaged = bytearray(content)
            damaged[position] = value
            set_entry(described.model, "TFLITE_METADATA", bytes(damaged))
            for read in (about_of, labels_of, normalization_of):
                try:
                    read(described)
                except DeployError as error:
                    assert "metadata is damaged" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("step", [13, *slow(1)])
def test_a_damaged_archive_is_one_line(described, step):
    content = bytearray(described.content())
    start = bytes(content).rindex(b"PK\x01\x02")
    refused = 0
    for position in range(start, len(content), step):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        try:
            FlatGraph(bytes(damaged))
        except DeployError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused


def test_an_archive_that_unpacks_to_much_is_refused(nano_float32):
    file = io.BytesIO(nano_float32.read_bytes())
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", b"a" * 2**25)
    with pytest.raises(DeployError, match="more than 16 MiB"):
        FlatGraph(file.getvalue())


def test_nothing_attached_changes_nothing():
    assert with_attachments(b"abc", {}) == b"abc"
