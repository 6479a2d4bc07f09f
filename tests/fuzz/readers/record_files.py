"""TFRecord shards, damaged as bytes, and whole ones of other records, names and labels."""

import json
from pathlib import Path
from random import Random

from mixnet_tf.progress.loading import load_tensorflow
from tests.fuzz.cases import Case
from tests.fuzz.mutations import damaged
from tests.fuzz.readers.data_files import _PIXELS, CLASSES, MODEL, _encoded

_NAMES = ("x-train.tfrecord-{:05}-of-00002", "x-test.tfrecord-{:05}-of-00002")
_STRANGE = ("x.tfrecord", "train_test.tfrec", "test-00000-of-99999", "valid-00000-of-00001", "\x1b[31mtest.tfrecord")


def data_records(random: Random, folder: Path) -> Case:
    """Evaluate on TFRecord shards, and count the records as TensorFlow does."""
    data, kind = folder / "data", random.random()
    load_tensorflow()
    data.mkdir()
    features = random.choice((("image", "label"), ("image/encoded", "image/class/label")))
    for name in _NAMES:
        for number in range(2):
            labels = range(CLASSES) if number else range(CLASSES - 1, -1, -1)
            _write(data / name.format(number), [_example(random, label, features, kind < 0.4) for label in labels])
    paths = sorted(data.iterdir())
    if kind > 0.6:
        path = random.choice(paths)
        path.write_bytes(damaged(random, path.read_bytes()))
    if random.random() < 0.1:
        random.choice(paths).rename(data / random.choice(_STRANGE))
    if random.random() < 0.3:
        labels = [str(label) for label in range(random.choice((CLASSES, CLASSES, CLASSES + 1)))]
        content = "\n".join(labels).encode()
        (data / "labels.txt").write_bytes(damaged(random, content) if random.random() < 0.3 else content)
    flags = ["--json", *(["--on-bad-image", "skip"] * (random.random() < 0.6))]
    return Case(["evaluate", MODEL, "--data", str(data), *flags], lambda output: _wrong_count(output, data))


def _example(random: Random, label: int, features: tuple[str, str], spoil: bool) -> bytes:
    """Return an example; one of a few is not as it should be where `spoil` is set."""
    import tensorflow as tf

    image = _encoded(_image(label), "PNG")
    if spoil and random.random() < 0.03:
        image = damaged(random, image)
    values = {features[0]: [image], features[1]: [label]}
    if spoil and random.random() < 0.015:
        change = random.randrange(6)
        name = random.choice(features)
        if change == 0:
            values[features[1]] = [random.choice((-1, CLASSES, 2**63 - 1, -(2**63)))]
        elif change == 1:
            values[name] = []
        elif change == 2:
            values[name] = 2 * values[name]
        elif change == 3:
            del values[name]
        elif change == 4:
            values["image/class/text"] = [random.choice((b"", b"a\nb", b"\xff\xfe", b"x" * 999))]
        else:
            values[random.choice(("image", "class", "label"))] = [random.choice((image, label))]
    lists = {
        name: {"bytes_list": tf.train.BytesList(value=value)}
        if value and isinstance(value[0], bytes)
        else {"int64_list": tf.train.Int64List(value=value)}
        for name, value in values.items()
    }
    message = tf.train.Features(feature={name: tf.train.Feature(**value) for name, value in lists.items()})
    content = tf.train.Example(features=message).SerializeToString()
    return damaged(random, content) if spoil and random.random() < 0.005 else content


def _image(label: int):
    from PIL import Image

    return Image.fromarray(_PIXELS[label])


def _write(path: Path, records: list[bytes]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def _wrong_count(output: str, data: Path) -> str | None:
    """Count the records that TensorFlow finds in the shards of the split that was measured: test, else val."""
    import tensorflow as tf

    result, paths = json.loads(output), sorted(data.iterdir())
    names = [path.name for path in paths if "test" in path.name] or [path.name for path in paths if "val" in path.name]
    count = sum(1 for _ in tf.data.TFRecordDataset([str(data / name) for name in names]))
    left_out = sum(Path(name).parent.name in names for name in result["skipped_images"])
    return None if result["count"] + left_out == count else f"counts {result['count']} of {count} images"


READERS = {"data-records": data_records}
