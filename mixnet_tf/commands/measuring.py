"""Commands that measure accuracy: evaluate, compare."""

import argparse
import dataclasses

from mixnet_tf.commands.arguments import add_data, add_image_size, add_split
from mixnet_tf.commands.output import load_tensorflow, show_notes, show_skipped, show_table


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .keras or .tflite file")
    add_data(parser)
    add_split(parser)
    parser.add_argument("--reference", metavar="OTHER", help="also compare with this model")
    add_image_size(parser, "the model's own, else the data's, else 224")


def run_evaluate(args: argparse.Namespace) -> dict:
    from mixnet_tf.data.batches import load_data

    data = load_data(args.data)
    load_tensorflow()
    from mixnet_tf.evidence.evaluation import evaluate

    result = evaluate(
        args.model,
        data,
        split=args.split,
        reference=args.reference,
        image_size=args.image_size,
        on_bad_image=args.on_bad_image,
    )
    return dataclasses.asdict(result) | _about(data, args.split)


def _about(data, split: str) -> dict:
    """Return what a reader of the numbers should know about the images."""
    notes = []
    if split in data.held_out:
        count = len(data.splits[split])
        notes.append(f"{data.name} has no {split} split: {count} of its images are held out, always the same")
    if split == "test" and data.splits["test"] is data.splits["val"]:
        notes.append(f"{data.name} has no test split: its val stands in, which also chose the best epoch in training")
    return {"notes": notes, "skipped_images": data.skipped()}


def show_evaluate(result: dict) -> None:
    show_notes(result["notes"])
    show_skipped(result["skipped_images"])
    show_table(("class", "top-1"), [(name, f"{value:.2%}") for name, value in result["per_class"].items()])
    print(f"\n{result['model']}: top-1 {result['top1']:.2%}, top-5 {result['top5']:.2%} of {result['count']} images")
    if result["reference"]:
        snr = "equal outputs" if result["snr_db"] is None else f"logit SNR {result['snr_db']:.1f} dB"
        print(f"against {result['reference']}: agreement {result['agreement']:.2%}, {snr}")


def add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="the reference: a .keras or .tflite file")
    parser.add_argument("b", metavar="B", help="the other")
    add_data(parser)
    add_split(parser)
    add_image_size(parser, "the models' own, else the data's, else 224")


def run_compare(args: argparse.Namespace) -> dict:
    from mixnet_tf.data.batches import load_data

    data = load_data(args.data)
    load_tensorflow()
    from mixnet_tf.evidence.comparison import compare

    found = compare(args.a, args.b, data, split=args.split, image_size=args.image_size, on_bad_image=args.on_bad_image)
    return dataclasses.asdict(found) | _about(data, args.split)


def show_compare(result: dict) -> None:
    show_notes(result["notes"])
    show_skipped(result["skipped_images"])
    rows = [
        (
            result[name],
            f"{own['value']:.2%}",
            f"{own['low']:.2%} to {own['high']:.2%}",
            f"{result[f'top5_{name}']['value']:.2%}",
            result[f"only_{name}_right"],
        )
        for name, own in (("a", result["top1_a"]), ("b", result["top1_b"]))
    ]
    show_table(("model", "top-1", "95 % interval", "top-5", "only this one right"), rows)
    snr = "equal outputs" if result["snr_db"] is None else f"logit SNR {result['snr_db']:.1f} dB"
    print(
        f"\n{result['count']} images: agreement {result['agreement']:.2%}, {snr}, cosine {result['cosine']:.5f}, "
        f"McNemar p = {result['p_value']:.2g}"
    )
