"""Compares MediaPipe's ImageClassifier with LiteRT, on the two files of a bundle and on photographs.

It needs an environment of its own, because mediapipe and TensorFlow do not go together:

    python3 -m venv MP && MP/bin/pip install mediapipe==1.2.2 ai-edge-litert==2.3.0 pillow==13.0.0
    PYTHONPATH=. MP/bin/python tests/bench/mediapipe_check.py BUNDLE --images FOLDER
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import mediapipe
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from mediapipe.tasks.python.components.containers.rect import RectF
from mediapipe.tasks.python.core.base_options import BaseOptions
from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions, ImageProcessingOptions
from PIL import Image

from mixnet_tf.data.pixels import evaluation_pixels

FILES = ("model_float32.tflite", "model.tflite")
LOOKED_AT = 24  # images of which the pixels are compared, too: that is slow
Region = tuple[float, float, float, float]  # left, top, right, bottom as fractions
Row = tuple[list[bool], list[float], list[float]]  # of each image: same class, mean and largest difference


class MediaPipe:
    """A ``.tflite`` in MediaPipe; its index and its name of every class."""

    def __init__(self, content: bytes):
        options = ImageClassifierOptions(base_options=BaseOptions(model_asset_buffer=content), max_results=-1)
        self.classifier = ImageClassifier.create_from_options(options)

    def categories(self, pixels: np.ndarray, region: Region = (0, 0, 1, 1)) -> list:
        left, top, right, bottom = region  # RectF's own order is another one
        rect = RectF(left=left, top=top, right=right, bottom=bottom)
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels))
        result = self.classifier.classify(image, ImageProcessingOptions(region_of_interest=rect))
        return sorted(result.classifications[0].categories, key=lambda category: category.index)

    def __call__(self, pixels: np.ndarray, region: Region = (0, 0, 1, 1)) -> np.ndarray:
        return np.array([category.score for category in self.categories(pixels, region)])


def litert(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(taken["index"], pixels[None].astype(taken["dtype"]))
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])[0]

    run.image_size = tuple(taken["shape"][1:3])
    return run


def mirror(height: int, width: int) -> bytes:
    """Return a ``.tflite`` whose classes are the values of its pixels: what MediaPipe gives a network to see."""

    def tensor(name: bytes, shape: tuple[int, ...], type: int, buffer: int = 0) -> schema.TensorT:
        result = schema.TensorT(name=name, shape=np.int32(shape), type=type, buffer=buffer)
        if type == schema.TensorType.UINT8:
            result.quantization = schema.QuantizationParametersT(scale=np.float32([1]), zeroPoint=np.int64([0]))
        return result

    uint8, count = schema.TensorType.UINT8, height * width * 3
    reshape = schema.BuiltinOperator.RESHAPE
    shape = schema.BufferT(data=np.frombuffer(np.int32([1, count]).tobytes(), np.uint8))
    graph = schema.SubGraphT(
        tensors=[
            tensor(b"image", (1, height, width, 3), uint8),
            tensor(b"shape", (2,), schema.TensorType.INT32, buffer=1),
            tensor(b"pixels", (1, count), uint8),
        ],
        operators=[schema.OperatorT(inputs=np.int32([0, 1]), outputs=np.int32([2]))],
        inputs=np.int32([0]),
        outputs=np.int32([2]),
    )
    code = schema.OperatorCodeT(deprecatedBuiltinCode=reshape, builtinCode=reshape, version=1)
    model = schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph], buffers=[schema.BufferT(), shape])
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def crop_region(photo: Image.Image, image_size: tuple[int, int]) -> Region:
    """Return where our crop lies: by the words of README, and only for square networks."""
    size, _ = image_size
    short = int(size / 0.875)
    shorter = min(photo.size)
    resized = [short if side == shorter else int(short * side / shorter) for side in photo.size]
    left, top = (round((side - size) / 2) for side in resized)
    return left / resized[0], top / resized[1], (left + size) / resized[0], (top + size) / resized[1]


def evenly(items: list, count: int) -> list:
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, min(count, len(items)))]


def compare(bundle: Path, paths: list[Path]) -> dict:
    """Return what MediaPipe makes of photos, for each way of handing them over, beside LiteRT on our crop."""
    contents = {name: (bundle / name).read_bytes() for name in FILES}
    runs = {name: litert(content) for name, content in contents.items()}
    image_size = runs[FILES[0]].image_size
    pipes, seen = {name: MediaPipe(content) for name, content in contents.items()}, MediaPipe(mirror(*image_size))
    labels = [category.category_name for category in pipes[FILES[0]].categories(np.zeros((*image_size, 3), np.uint8))]
    ways: dict[str, dict] = {}
    quantized: Row = ([], [], [])
    for index, path in enumerate(paths):
        photo = Image.open(path).convert("RGB")
        ours, whole = evaluation_pixels(photo, image_size, 0.875), np.asarray(photo)
        expected = {name: run(ours) for name, run in runs.items()}
        note(quantized, *expected.values())
        handed = {
            "our crop, cut before": (ours, (0, 0, 1, 1)),
            "region of our crop": (whole, crop_region(photo, image_size)),
            "region .0625 to .9375": (whole, (0.0625, 0.0625, 0.9375, 0.9375)),
            "whole photo": (whole, (0, 0, 1, 1)),
        }
        for way, (pixels, region) in handed.items():
            row = ways.setdefault(way, {"pixels": [], "filter": [], **{name: ([], [], []) for name in FILES}})
            for name in FILES:
                note(row[name], pipes[name](pixels, region), expected[name])
            if index < LOOKED_AT:
                view = np.rint(seen(pixels, region)).reshape(ours.shape).astype(np.uint8)
                row["pixels"].append(float(abs(view.astype(int) - ours).mean()))
                row["filter"].append(float(abs(pipes[FILES[0]](pixels, region) - runs[FILES[0]](view)).max()))
    rows = {
        way: {
            "pixels": float(np.mean(row["pixels"])),
            "on_equal_pixels": max(row["filter"]),
            **{name: summary(row[name]) for name in FILES},
        }
        for way, row in ways.items()
    }
    return {"images": len(paths), "labels": labels, "quantization": summary(quantized), "ways": rows}


def note(row: Row, scores: np.ndarray, expected: np.ndarray) -> None:
    row[0].append(scores.argmax() == expected.argmax())
    row[1].append(float(abs(scores - expected).mean()))
    row[2].append(float(abs(scores - expected).max()))


def summary(row: Row) -> dict[str, float]:
    return {"same_class": float(np.mean(row[0])), "mean": float(np.mean(row[1])), "largest": max(row[2])}


def table(result: dict) -> str:
    files = [f"{kind}: {number}" for kind in ("float32", "int8") for number in ("same class", "mean", "largest")]
    lines = [["handed to MediaPipe", "a pixel differs by", *files], ["---"] * 8]
    for way, row in result["ways"].items():
        numbers = [text for name in FILES for text in shown(row[name])]
        lines.append([way, f"{row['pixels']:.2f}", *numbers])
    lines.append(["LiteRT, int8 beside float32", "0.00", "", "", "", *shown(result["quantization"])])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def shown(numbers: dict[str, float]) -> list[str]:
    return [f"{numbers['same_class']:.2%}", f"{numbers['mean']:.3f}", f"{numbers['largest']:.2f}"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a folder with model.tflite and model_float32.tflite")
    parser.add_argument("--images", type=Path, required=True, help="a folder of photographs, searched to its leaves")
    parser.add_argument("--count", type=int, default=400, help="how many of them, evenly chosen (default: 400)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        parser.error(f"{arguments.images}: found no .jpg or .png, expected photographs")
    result = compare(arguments.bundle, evenly(found, arguments.count))
    print(json.dumps(result) if arguments.json else table(result))
