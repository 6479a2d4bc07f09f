"""Names of classes: which are taken, and what is said of the others."""

import pytest

from mixnet_tf.data.labels import labels_beside, read_labels
from mixnet_tf.errors import DataError


def test_from_a_list_and_from_a_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("a cat\nJürgen\n", encoding="utf-8")
    assert (
        read_labels(["a cat", "Jürgen"], 2) == read_labels(path, 2) == read_labels(str(path), 2) == ("a cat", "Jürgen")
    )


def test_what_windows_puts_in_front_is_no_part_of_the_first_label(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\r\ndog\r\n", encoding="utf-8-sig", newline="")
    assert read_labels(path, 2) == ("cat", "dog")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028"])
def test_a_label_ends_without_a_line_break(end):
    """As `readlines` leaves it: in the file it would be two."""
    with pytest.raises(DataError, match=r"label 1 is 'dog.*expected a text of one line"):
        read_labels(["cat", f"dog{end}"], 2)


def test_imagenet_has_the_published_order():
    labels = read_labels("imagenet", 1000)
    assert [labels[i] for i in (0, 207, 281, 999)] == ["tench", "golden retriever", "tabby", "toilet tissue"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n", "found 1, expected 2: one for each class of the model"),
        (b"a\nb\nc\n", "found 3, expected 2"),
        (b"a\n\n", "label 1 is '', expected a text of one line"),
        (b"\xff\xfe\n", "no text in UTF-8; expected a label on each line"),
        ("ü".encode() * 2**20, "has more than 1 MiB; expected a label on each line"),
    ],
)
def test_a_file_that_does_not_fit(content, message, tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="names.txt.*" + message.replace("(", "\\(")):
        read_labels(path, 2)


def test_what_is_no_label():
    with pytest.raises(DataError, match="label 1 is 3, expected a text of one line"):
        read_labels(["a", 3], 2)
    with pytest.raises(DataError, match=r"imagnet: no such file; .*did you mean 'imagenet'"):
        read_labels("imagnet", 2)


def test_only_labels_that_fit_are_taken_from_beside_a_model(tmp_path):
    model = tmp_path / "model.keras"
    assert labels_beside(model, 2) is None
    (tmp_path / "labels.txt").write_text("a\nb\n")
    assert labels_beside(model, 2) == ("a", "b")
    assert labels_beside(model, 3) is None
