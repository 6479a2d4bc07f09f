"""A bundle for the browser, made of the committed fixtures in a moment: `mixnet-tf bundle` would measure it first."""

import hashlib
import json
from pathlib import Path

import numpy as np

from mixnet_tf.bundles.manifest import MANIFEST, MODEL, TWIN
from mixnet_tf.demo.page import PLAIN
from mixnet_tf.litert.description import About, describe
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.scores import add_scores
from mixnet_tf.quantization.io_types import set_types

CROP = 0.875
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def mobile(source: Path, labels: tuple[str, ...] | None = LABELS) -> bytes:
    """Return the nano fixture, in int8 or in float32, as the recipes mobile and mobile_float32 make it."""
    graph = FlatGraph.read(source)
    if graph.tensor(graph.inputs[0]).dtype == "int8":
        set_types(graph, "uint8", "float32")
    add_scores(graph, "softmax")
    describe(graph, About(name="mixnet_nano"), labels, CROP)
    return graph.content()


def write_bundle(folder: Path, int8: Path, float32: Path) -> Path:
    """Write a bundle of the nano fixtures into a new folder; what stands for the plain file is the float one."""
    images = np.random.default_rng(7).integers(0, 256, (2, 32, 32, 3), np.uint8)
    files = {MODEL: mobile(int8), TWIN: mobile(float32)}
    files |= {f"goldens/{i}.rgb": image.tobytes() for i, image in enumerate(images)}
    manifest = {
        "format": 1,
        "name": "mixnet_nano",
        "image_size": [32, 32],
        "crop_fraction": CROP,
        "classes": 10,
        "files": {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()},
        "goldens": [
            {"image": f"goldens/{i}.rgb", "label": f"picture {i}", **dict.fromkeys((MODEL, TWIN), "goldens/0.rgb")}
            for i in range(len(images))
        ],
        "tolerances": {name: {"litert": 0.0} for name in (MODEL, TWIN)},
    }
    for name, content in {**files, PLAIN: files[TWIN], MANIFEST: json.dumps(manifest).encode()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
