"""Train the MixNet-S on photographs that tests of delivery need, once: random and tiny networks hide differences.

    python tests/bench/trained.py --data trashnet

It takes an hour on two cores, most of it for the training, which is that of the README's results: a copy of its folder
as ``run/`` saves that. Into FOLDER (default: ~/.cache/mixnet_tf/trained, or MIXNET_TF_TRAINED, where the tests look for
it) it writes ``run/``, ``bundle/``, and the files of the plain graph, ``plain.tflite`` and ``plain_float32.tflite``.
What is there already is kept.
"""

import argparse
import os
from pathlib import Path

from mixnet_tf import TrainingConfig, bundle, export, load_data, train

FOLDER = Path(os.environ.get("MIXNET_TF_TRAINED", Path.home() / ".cache" / "mixnet_tf" / "trained"))
IMAGE_SIZE, EPOCHS = 112, 24
FILES = {
    "model.tflite": {"recipe": "mobile"},
    "model_float32.tflite": {"recipe": "mobile_float32"},
    "plain.tflite": {"recipe": "mobile", "graph": "plain"},
    "plain_float32.tflite": {"recipe": "mobile_float32", "graph": "plain"},
}


def make(data_source: str, folder: Path) -> None:
    data, run = load_data(data_source), folder / "run"
    if not (run / "model.keras").exists():
        train("mixnet_s", data, run, image_size=IMAGE_SIZE, training=TrainingConfig(epochs=EPOCHS), resume=run.exists())
    for name, arguments in FILES.items():
        if not (folder / name).exists():
            export(run / "model.keras", folder / name, data=data, **arguments)
    if not (folder / "bundle").exists():
        trained_on = f"{data.name}: {len(data.splits['train'])} images, {EPOCHS} epochs"
        files = folder / "model.tflite", folder / "model_float32.tflite"
        bundle(files[0], folder / "bundle", data=data, float32=files[1], trained_on=trained_on)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder {train,val,test}/<class>/* of photographs")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER")
    arguments = parser.parse_args()
    make(arguments.data, arguments.output)
