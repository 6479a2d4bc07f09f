"""How far the C program of tflite/native is from Python on photographs: the numbers of its README.

    python -m tests.bench.bench_native BUNDLE --data PHOTOGRAPHS [--images 400] [--arm ARM64]

It compares pixels, and the outputs of the bundle's two files: of the program here; of the pixels that stb_image and
stb_image_resize make (Debian's libstb-dev); and of the program on an emulated Cortex-A76, given a folder of arm64.sh.
That takes seconds for every image.
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mixnet_tf import load_data
from mixnet_tf.data.decoding import decode
from mixnet_tf.data.pixels import evaluation_pixels
from mixnet_tf.litert.op_table import inspect_model
from mixnet_tf.litert.runtime import LiteModel
from tests.native_builds import Built, build

MODELS = ("model.tflite", "model_float32.tflite")


def stb_pixels(photos: list[str], size: int, folder: Path) -> bytes:
    program = folder / "stb_pixels"
    subprocess.run(["gcc", "-O2", Path(__file__).with_name("stb_pixels.c"), "-o", program, "-lm"], check=True)
    return subprocess.run([program, str(size), *photos], capture_output=True, check=True).stdout


def compare(name: str, built: Built, bundle: Path, pixels: np.ndarray, wanted: np.ndarray, folder: Path) -> None:
    """Print a line for the pixels, and one for each file run on them."""
    different = (pixels != wanted).any(axis=(1, 2, 3)).sum()
    print(
        f"{name}: pixels of {different} of {len(wanted)} differ, by up to {np.abs(pixels - wanted.astype(int)).max()}"
    )
    pixels.tofile(folder / "images.rgb")
    for model in MODELS:
        python, step = LiteModel(bundle / model)(wanted), inspect_model(bundle / model).logit_step
        outputs = built.outputs(bundle / model, folder / "images.rgb").reshape(python.shape)
        classes = (outputs.argmax(axis=1) != python.argmax(axis=1)).sum()
        line = f"  {model}: probabilities differ by up to {np.abs(outputs - python).max():.2g}, {classes} other classes"
        if step is not None:  # logits are known but for a constant
            apart = np.ptp(np.log(outputs.astype(float) / python) / step, axis=1)
            line += f", {(apart > 0.5).sum()} with other logits, {apart.max():.1f} steps apart"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", required=True, help="a folder {train,val,test}/<class>/* of photographs")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--arm", metavar="ARM64")
    args = parser.parse_args()
    photos = [str(path) for path in load_data(args.data).splits["test"].images[: args.images]]
    height, width = LiteModel(args.bundle / MODELS[0]).image_size
    wanted = np.stack([evaluation_pixels(decode(path), (height, width), 0.875) for path in photos])
    with tempfile.TemporaryDirectory() as root:
        for variant in ("c", *(["arm64"] if args.arm else [])):
            os.environ["MIXNET_TF_ARM64"] = args.arm or ""
            (folder := Path(root, variant)).mkdir()
            built = build(variant, folder)
            made = {variant: built.probe("pixels", height, width, 0.875, *photos)}
            if variant == "c":
                made["stb"] = stb_pixels(photos, height, folder)
            for name, pixels in made.items():
                compare(name, built, args.bundle, np.frombuffer(pixels, np.uint8).reshape(wanted.shape), wanted, folder)


if __name__ == "__main__":
    main()
