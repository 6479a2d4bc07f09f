"""A bundle for the browser, made of the committed fixtures in a moment."""

from pathlib import Path

import numpy as np

from mixnet_tf.bundles import bundle
from mixnet_tf.demo.page import PLAIN
from mixnet_tf.litert.description import About, describe
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.scores import add_scores
from mixnet_tf.quantization.io_types import set_types

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def mobile(source: Path, labels: tuple[str, ...] | None = LABELS) -> bytes:
    """Return the nano fixture, in int8 or in float32, as the recipes mobile and mobile_float32 make it."""
    graph = FlatGraph.read(source)
    if graph.tensor(graph.inputs[0]).dtype == "int8":
        set_types(graph, "uint8", "float32")
    add_scores(graph, "softmax")
    describe(graph, About(name="mixnet_nano"), labels)
    return graph.content()


def write_bundle(folder: Path, int8: Path, float32: Path) -> Path:
    """Write a bundle of the nano fixtures into a new folder; what stands for the plain file is the float one."""
    files = folder.with_name("int8.tflite"), folder.with_name("float32.tflite")
    for file, source in zip(files, (int8, float32), strict=True):
        file.write_bytes(mobile(source))
    images = np.random.default_rng(7).integers(0, 256, (10, 32, 32, 3), np.uint8)
    bundle(files[0], folder, data=(images, np.arange(10)), float32=files[1])
    (folder / PLAIN).write_bytes(files[1].read_bytes())
    return folder
