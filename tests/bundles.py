"""A bundle for the browser, made of the committed fixtures in a moment."""

import json
from pathlib import Path

import numpy as np

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


def write_bundle(folder: Path, int8: Path, float32: Path, images: np.ndarray) -> Path:
    """Write a bundle of the nano fixtures, whose plain file is the float one; `images` are its golden pictures."""
    (folder / "goldens").mkdir(parents=True)
    for name, source in {"model": int8, "model_plain": float32, "model_float32": float32}.items():
        (folder / f"{name}.tflite").write_bytes(mobile(source))
    for i, image in enumerate(images):
        (folder / "goldens" / f"{i}.rgb").write_bytes(image.tobytes())
    goldens = [{"image": f"goldens/{i}.rgb", "label": f"picture {i}"} for i in range(len(images))]
    manifest = {
        "format": 1,
        "name": "mixnet_nano",
        "image_size": [32, 32],
        "classes": 10,
        "files": {},
        "goldens": goldens,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
