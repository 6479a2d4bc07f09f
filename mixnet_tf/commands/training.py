"""Commands up to a trained model, and the pipeline: list, summary, train, import-weights, pipeline."""

import argparse
import dataclasses
import sys
from pathlib import Path

from mixnet_tf.commands.arguments import (
    add_config,
    add_data,
    add_graph,
    add_image_size,
    add_overwrite,
    add_padding,
    count,
    real,
    seed,
)
from mixnet_tf.commands.output import load_tensorflow, show_notes, show_skipped, show_table
from mixnet_tf.training.config import TrainingRecipe


def add_list(parser: argparse.ArgumentParser) -> None:
    """``list`` has no arguments of its own."""


def run_list(args: argparse.Namespace) -> dict:
    from mixnet_tf.config import load_config
    from mixnet_tf.schema import shipped_files

    return {
        "configs": {name: _totals(load_config(name)) for name in shipped_files("configs")},
        "recipes": list(shipped_files("recipes")),
    }


def _totals(config) -> dict:
    from mixnet_tf.counting import count_stages

    rows = count_stages(config, image_size=(224, 224), classes=1000)
    return {"parameters": sum(row.parameters for row in rows), "macs": sum(row.macs for row in rows)}


def show_list(result: dict) -> None:
    show_table(
        ("config", "parameters", "MACs at 224 px, 1000 classes"),
        [(name, f"{own['parameters']:,}", f"{own['macs'] / 1e6:.1f} M") for name, own in result["configs"].items()],
    )
    print(f"\nrecipes: {', '.join(result['recipes'])}")


def add_summary(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_image_size(parser, "224")
    parser.add_argument("--classes", type=count, default=1000, metavar="N", help="default: %(default)s")


def run_summary(args: argparse.Namespace) -> dict:
    from mixnet_tf.config import load_config
    from mixnet_tf.counting import count_stages

    config, size = load_config(args.config), args.image_size or 224
    rows = count_stages(config, image_size=(size, size), classes=args.classes)
    return {
        "name": config.name,
        "image_size": size,
        "classes": args.classes,
        "parameters": sum(row.parameters for row in rows),
        "macs": sum(row.macs for row in rows),
        "stages": [dataclasses.asdict(row) for row in rows],
    }


def show_summary(result: dict) -> None:
    print(f"{result['name']} at {result['image_size']} px, {result['classes']} classes\n")
    rows = [
        (
            row["name"],
            row["blocks"] or "",
            f"{row['height']}x{row['width']}",
            row["channels"],
            " ".join(str(size) for size in row["kernel_sizes"]),
            f"{row['parameters']:,}",
            f"{row['macs'] / 1e6:.2f} M",
        )
        for row in result["stages"]
    ]
    rows.append(("total", "", "", "", "", f"{result['parameters']:,}", f"{result['macs'] / 1e6:.2f} M"))
    show_table(("stage", "blocks", "output", "channels", "kernels", "parameters", "MACs"), rows)
    print("\nMACs of convolutions and fully connected layers; parameters are the trainable ones.")


_RECIPE_FLAGS = {
    "epochs": (count, "passes over the training images"),
    "batch_size": (count, "images a step"),
    "learning_rate": (real, "peak learning rate of AdamW"),
    "weight_decay": (real, "of AdamW, on kernels and batch-norm scales"),
    "range_penalty": (real, "weight of the penalty on tensors that few values stretch, for int8"),
    "warmup_epochs": (real, "epochs of linear warm-up"),
    "ema_epochs": (real, "epochs the moving average of the weights looks back"),
    "seed": (seed, "of initialisation, order and augmentation"),
}


def add_train(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_data(parser)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the run's folder")
    add_image_size(parser, "the data's own, else 224")
    for name, (kind, help_text) in _RECIPE_FLAGS.items():
        help_text += f" (default: {getattr(TrainingRecipe, name):g})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=help_text)
    help_text = "smallest random crop, as a fraction of the image (default: what suits the data)"
    parser.add_argument("--min-area", type=real, metavar="N", help=help_text)
    parser.add_argument("--no-flip", action="store_true", help="never mirror training images")
    help_text = "strength of the colour jitter (default: what suits the data)"
    parser.add_argument("--jitter", type=real, metavar="N", help=help_text)
    parser.add_argument("--weights", metavar="FILE", help="start from these weights")
    add_padding(parser)
    parser.add_argument("--freeze-backbone", action="store_true", help="train the head only")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="continue the run in DIR")
    group.add_argument("--overwrite", action="store_true", help="start anew where DIR holds a run")


def _training_arguments(args: argparse.Namespace, config, data) -> dict:
    """Turn the flags of ``train`` and ``pipeline`` into arguments of ``training.train``."""
    from mixnet_tf.training.fit import check_folder, holds_run

    check_folder(args.output, resume=args.resume, overwrite=args.overwrite)
    if args.resume and not holds_run(args.output):
        print(f"{args.output}: holds no run to resume; starting one", file=sys.stderr)
    flags = vars(args)
    given = {name: flags[name] for name in _RECIPE_FLAGS if flags[name] is not None}
    changes = {name: flags[name] for name in ("min_area", "jitter") if flags[name] is not None}
    if args.no_flip:
        changes["flip"] = False
    return {
        "image_size": args.image_size or data.image_size or 224,
        "recipe": TrainingRecipe(**given),
        "augmentation": dataclasses.replace(data.augmentation, **changes),
        "weights": args.weights,
        "freeze_backbone": args.freeze_backbone,
        "padding": args.padding,
        "resume": args.resume,
        "overwrite": args.overwrite,
        "on_bad_image": args.on_bad_image,
    }


def run_train(args: argparse.Namespace) -> dict:
    from mixnet_tf.config import load_config
    from mixnet_tf.data.batches import load_data

    config, data = load_config(args.config), load_data(args.data)
    load_tensorflow()
    from mixnet_tf.training.fit import MODEL, best_epoch, train

    train(config, data, args.output, **_training_arguments(args, config, data))
    epoch, accuracy = best_epoch(args.output)
    return {
        "model": str(args.output / MODEL),
        "best_epoch": epoch,
        "val_top1": accuracy,
        "skipped_images": data.skipped(),
    }


def show_train(result: dict) -> None:
    show_skipped(result["skipped_images"])
    best = f"top-1 {result['val_top1']:.2%} on the validation images, in epoch {result['best_epoch'] + 1}"
    print(f"trained model: {result['model']}, {best}")


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    add_train(parser)
    add_graph(parser)


def run_pipeline(args: argparse.Namespace) -> dict:
    from mixnet_tf.config import load_config
    from mixnet_tf.data.batches import load_data

    config, data = load_config(args.config), load_data(args.data)
    load_tensorflow()
    from mixnet_tf.pipeline import run_pipeline

    training = _training_arguments(args, config, data)
    report = run_pipeline(config, data, args.output, data_source=args.data, graph=args.graph, **training)
    return report.to_dict() | {"report": str(args.output / "report.md")}


def show_pipeline(result: dict) -> None:
    show_skipped(result["skipped_images"])
    show_notes(result["notes"])
    rows = []
    for own in result["results"]:
        accuracy, latency = own["evaluation"], own["latency"]
        agreement = "" if accuracy["agreement"] is None else f"{accuracy['agreement']:.2%}"
        speed = "" if latency is None else f"{latency['median_ms']:.2f}"
        rows.append((own["file"], f"{own['size_bytes'] / 1e6:.2f}", f"{accuracy['top1']:.2%}", agreement, speed))
    show_table(("file", "MB", "top-1", "agreement", "median ms"), rows)
    print(f"\nreport: {result['report']}")


def add_import_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .safetensors, .npz, .pth, .keras or .weights.h5 file")
    parser.add_argument("--config", required=True, metavar="C", help="a shipped name or a .yaml file")
    parser.add_argument("--output", required=True, type=Path, metavar="F.keras")
    add_padding(parser)
    parser.add_argument("--allow-nan", action="store_true", help="take weights that are not finite")
    parser.add_argument("--check", metavar="IMAGE", help="print the five best classes of this image")
    add_image_size(parser, "any size")
    add_overwrite(parser)


def run_import_weights(args: argparse.Namespace) -> dict:
    from mixnet_tf.config import load_config
    from mixnet_tf.data.pixels import decode, evaluation_pixels, preprocess_input
    from mixnet_tf.files import check_free, check_suffix

    check_suffix(args.output, ".keras")
    check_free(args.output, overwrite=args.overwrite)
    config, image = load_config(args.config), decode(args.check) if args.check else None
    load_tensorflow()
    import keras

    from mixnet_tf.saving import import_weights, save_model

    model = import_weights(
        args.file,
        config,
        image_size=args.image_size,
        padding=args.padding,
        classifier_activation=None,
        allow_nan=args.allow_nan,
    )
    result = {"path": str(args.output), "classes": model.output_shape[-1]}
    if image is not None:
        pixels = evaluation_pixels(image, args.image_size or 224, 0.875)
        logits = model.predict(preprocess_input(pixels[None]), verbose=0)
        result["best"] = _best_classes(keras.activations.softmax(keras.ops.array(logits)).numpy())
    save_model(model, args.output, overwrite=args.overwrite)
    return result


def _best_classes(scores) -> list[dict]:
    from mixnet_tf.weights.imagenet import decode_predictions

    if scores.shape[1] == 1000:
        best = [(name, score) for _, name, score in decode_predictions(scores)[0]]
    else:
        best = [(str(i), scores[0, i]) for i in scores[0].argsort()[::-1][:5]]
    return [{"class": name, "score": float(score)} for name, score in best]


def show_import_weights(result: dict) -> None:
    print(f"{result['path']}: {result['classes']} classes")
    if "best" in result:
        show_table(("class", "score"), [(own["class"], f"{own['score']:.4f}") for own in result["best"]])
