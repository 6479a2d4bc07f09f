"""Commands around a ``.tflite``: export, quantize, inspect, benchmark."""

import argparse
import dataclasses
from pathlib import Path

from mixnet_tf.commands.arguments import (
    add_bad_images,
    add_graph,
    add_image_size,
    add_overwrite,
    count,
    fraction,
    seed,
    threads,
)
from mixnet_tf.commands.output import load_tensorflow, shape_text, show_notes, show_skipped, show_table
from mixnet_tf.errors import MixNetError
from mixnet_tf.quantization.recipe import CALIBRATION_IMAGES, EXPORT_RECIPES


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=Path, help="a .keras file")
    parser.add_argument("--recipe", required=True, choices=EXPORT_RECIPES)
    parser.add_argument("--output", required=True, type=Path, metavar="F.tflite")
    _add_calibration(parser)
    add_graph(parser)
    add_bad_images(parser)
    add_image_size(parser, "the model's own")
    add_overwrite(parser)


def _add_calibration(parser: argparse.ArgumentParser) -> None:
    help_text = "real images, for int8: 'digits', a folder or a .npz file; its training split is used"
    parser.add_argument("--calibration", metavar="D", help=help_text)
    help_text = "how many of them (default: %(default)s)"
    parser.add_argument("--images", type=count, default=CALIBRATION_IMAGES, metavar="N", help=help_text)


def run_export(args: argparse.Namespace) -> dict:
    from mixnet_tf.data.batches import load_data
    from mixnet_tf.files import check_free

    check_free(args.output, overwrite=args.overwrite)
    data = load_data(args.calibration) if args.calibration else None
    load_tensorflow()
    from mixnet_tf.exporting import export
    from mixnet_tf.saving import load_model

    model = load_model(args.model)
    own = model.inputs[0].shape[1:3]
    if args.image_size is None and None in own:
        raise MixNetError(f"{args.model}: takes images of any size; give --image-size")
    notes = export(
        model,
        args.recipe,
        args.output,
        image_size=args.image_size or own,
        graph=args.graph,
        calibration=data,
        images=args.images,
        on_bad_image=args.on_bad_image,
        overwrite=args.overwrite,
    )
    skipped = data.skipped() if data else ()
    size = args.output.stat().st_size
    return {"path": str(args.output), "size_bytes": size, "notes": list(notes), "skipped_images": skipped}


def show_export(result: dict) -> None:
    show_skipped(result["skipped_images"])
    show_notes(result["notes"])
    print(f"{result['path']}: {result['size_bytes'] / 1e6:.2f} MB")


def add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=Path, help="a .keras file, or a float32 .tflite from anywhere")
    parser.add_argument(
        "--recipe", required=True, metavar="R", help="a shipped name (see mixnet-tf list) or a .yaml file"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="F.tflite")
    _add_calibration(parser)
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="which ones (default: %(default)s)")
    help_text = "leave blocks in float32, by gain, until this share of top-1 classes is equal (default: the recipe's)"
    parser.add_argument("--min-agreement", type=fraction, metavar="X", help=help_text)
    parser.add_argument("--report", type=Path, metavar="DIR", help="write where the error comes from into DIR")
    add_bad_images(parser)
    add_image_size(parser, "the model's own")
    add_overwrite(parser)


def run_quantize(args: argparse.Namespace) -> dict:
    from mixnet_tf.data.batches import load_data
    from mixnet_tf.quantization.recipe import load_recipe

    recipe = load_recipe(args.recipe)
    data = load_data(args.calibration) if args.calibration else None
    load_tensorflow()
    from mixnet_tf.quantization.quantize import quantize

    result = quantize(
        args.model,
        recipe,
        data,
        args.output,
        image_size=args.image_size,
        images=args.images,
        seed=args.seed,
        min_agreement=args.min_agreement,
        report=args.report,
        on_bad_image=args.on_bad_image,
        overwrite=args.overwrite,
    )
    return dataclasses.asdict(result) | {"skipped_images": data.skipped() if data else ()}


def show_quantize(result: dict) -> None:
    show_skipped(result["skipped_images"])
    show_notes(result["notes"])
    if fallback := result["fallback"]:
        print(
            f"blocks left in float32: {', '.join(fallback['blocks']) or 'none'}; {fallback['agreement']:.2%} of "
            f"{fallback['images']} validation images agree; size {fallback['size_ratio']:.2f} and latency "
            f"{fallback['latency_ratio']:.2f} of int8 throughout"
        )
    print(f"{result['path']}: {result['size_bytes'] / 1e6:.2f} MB, recipe {result['recipe']['name']}")


def add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="F.tflite", type=Path)


def run_inspect(args: argparse.Namespace) -> dict:
    from mixnet_tf.litert.op_table import inspect_model

    return dataclasses.asdict(inspect_model(args.model)) | {"path": str(args.model)}


def show_inspect(result: dict) -> None:
    rows = [
        (
            f"{op['index']} {op['name']}",
            op["dtype"],
            shape_text(op["outputs"][0]) if op["outputs"] else "",
            "yes" if op["delegated"] else f"NO: {op['reason']}",
            op["cliff"],
        )
        for op in result["ops"]
    ]
    show_table(("op", "type", "output", "delegated", "performance cliff"), rows)
    print()
    for kind in ("inputs", "outputs"):
        for own in result[kind]:
            scale = "" if own["scale"] is None else f", scale {own['scale']:.6g}, zero point {own['zero_point']}"
            print(f"{kind.removesuffix('s')} {own['name']}: {own['dtype']} {shape_text(own['shape'])}{scale}")
    outside = sum(not op["delegated"] for op in result["ops"])
    cliffs = sum(bool(op["cliff"]) for op in result["ops"])
    print(
        f"{result['path']}: {result['size_bytes'] / 1e6:.2f} MB, {len(result['ops'])} ops, "
        f"{outside} outside the delegate, {cliffs} performance cliffs"
    )


def add_benchmark(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", metavar="F.tflite", nargs="+")
    parser.add_argument("--threads", type=threads, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=count, default=20, metavar="N", help="turns a model (default: %(default)s)")


def run_benchmark(args: argparse.Namespace) -> list[dict]:
    from mixnet_tf.evidence.benchmark import benchmark

    latencies = benchmark(args.models, num_threads=args.threads, rounds=args.rounds)
    return [dataclasses.asdict(latency) for latency in latencies]


def show_benchmark(result: list[dict]) -> None:
    milliseconds = ("min_ms", "median_ms", "p95_ms")
    rows = [(own["path"], *(f"{own[key]:.2f}" for key in milliseconds), f"{own['ratio']:.2f}") for own in result]
    show_table(("model", "min ms", "median ms", "p95 ms", "ratio to the first"), rows)
