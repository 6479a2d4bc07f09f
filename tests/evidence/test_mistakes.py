"""Which confusions and pictures a report shows: by hand, and with real image files."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mixnet_tf.data.dataset import Split
from mixnet_tf.evidence.mistakes import Confusion, data_uri, mistaken_pictures, worst_confusions

NAMES = ("cat", "dog", "elk")


def opened(uri: str) -> Image.Image:
    kind, content = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_the_worst_confusions_by_hand():
    """Most images first; of equals, those that are the larger share of their class."""
    confusion = np.array([[9, 3, 0], [5, 0, 3], [3, 0, 1]])
    pairs = [(pair.true, pair.predicted, pair.count, pair.share) for pair in worst_confusions(confusion, NAMES)]
    assert pairs == [
        ("dog", "cat", 5, 5 / 8),
        ("elk", "cat", 3, 3 / 4),
        ("dog", "elk", 3, 3 / 8),
        ("cat", "dog", 3, 1 / 4),
    ]
    assert worst_confusions(np.eye(3, dtype=int), NAMES) == ()
    assert len(worst_confusions(np.ones((9, 9), int), [str(i) for i in range(9)])) == 10


def test_the_surest_mistakes_come_first():
    """Image i is gray 10 i; outputs of the third class never win."""
    images = np.repeat(np.arange(8, dtype=np.uint8) * 10, 8 * 8 * 3).reshape(8, 8, 8, 3)
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 0])
    surplus = np.array([1.0, 5.0, -1.0, 3.0, 2.0, 4.0, 9.0, 0.5])  # of dog over cat
    outputs = np.stack([np.zeros(8), surplus, np.full(8, -9.0)], axis=1)
    pair = Confusion(true="cat", predicted="dog", count=6, share=6 / 7)
    pictures = mistaken_pictures(Split(images, labels), outputs, [pair], NAMES)
    assert [picture.name for picture in pictures] == ["image 1", "image 5", "image 3", "image 4"]
    assert {(picture.true, picture.predicted) for picture in pictures} == {("cat", "dog")}
    assert [round(np.asarray(opened(picture.uri)).mean() / 10) for picture in pictures] == [1, 5, 3, 4]


@pytest.fixture
def noise(tmp_path) -> Split:
    """Forty files that compress as badly as can be, four of each of ten classes; the sixth is gone."""
    rng, paths = np.random.default_rng(0), []
    for i in range(40):
        path = tmp_path / f"{i // 4}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(255 * rng.integers(0, 2, (96, 96, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    (tmp_path / "1" / "5.png").unlink()
    return Split(paths, np.arange(40) // 4)


def test_pictures_are_few_and_small_and_a_lost_file_is_left_out(noise):
    predicted = (noise.labels + 1) % 10
    names = [str(i) for i in range(10)]
    pairs = [Confusion(true=str(i), predicted=str((i + 1) % 10), count=4, share=1.0) for i in range(10)]
    pictures = mistaken_pictures(noise, np.eye(10)[predicted], pairs, names)
    assert [picture.name for picture in pictures[:7]] == [
        "0/0.png",
        "0/1.png",
        "0/2.png",
        "0/3.png",
        "1/4.png",
        "1/6.png",
        "1/7.png",
    ]
    sizes = [len(picture.uri) for picture in pictures]
    assert len(pictures) < 24 and 200_000 - max(sizes) < sum(sizes) <= 200_000
    few = mistaken_pictures(noise, np.eye(10)[predicted], pairs[2:3], names)
    assert [picture.name for picture in few] == ["2/8.png", "2/9.png", "2/10.png", "2/11.png"]


def test_there_are_24_pictures_at_most():
    labels = np.arange(40) // 4
    outputs, names = np.eye(10)[(labels + 1) % 10], [str(i) for i in range(10)]
    pairs = [Confusion(true=str(i), predicted=str((i + 1) % 10), count=4, share=1.0) for i in range(10)]
    assert len(mistaken_pictures(Split(np.zeros((40, 8, 8, 3), np.uint8), labels), outputs, pairs, names)) == 24


def test_a_picture_is_made_smaller_and_never_larger():
    assert opened(data_uri(Image.new("RGB", (300, 200)))).size == (96, 64)
    assert opened(data_uri(Image.new("RGB", (8, 20)))).size == (8, 20)
