"""``mixnet-tf train``: a classifier from a configuration and images."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixnet_tf.commands.arguments import (
    add_config,
    add_data,
    add_image_size,
    add_padding,
    integer_from,
    load_images,
    number_from,
)
from mixnet_tf.commands.output import say, show_skipped
from mixnet_tf.data.augmentation import Augmentation
from mixnet_tf.data.choices import IMAGE_SIZE, MOST_WORKERS, SPLITS
from mixnet_tf.errors import ConfigError
from mixnet_tf.progress.loading import load_tensorflow
from mixnet_tf.training.config import TrainingConfig

if TYPE_CHECKING:  # data needs numpy, which --help does without
    from mixnet_tf.data.dataset import ImageData

HELP = "train a classifier"

_ALIASES = {"learning_rate": ("--lr",), "batch_size": ("--batch",), "weight_decay": ("--wd",)}
"""What other trainers call these fields."""

_TYPES: dict[object, Callable[..., Callable[[str], float]]] = {int: integer_from, float: number_from}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_data(parser)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the run's folder")
    add_image_size(parser, f"the data's, else {IMAGE_SIZE}")
    help_text = "a .yaml file, small_data or imagenet: what the flags below say where they are not given"
    nothing: dict[str, dict] = {"training": {}, "augmentation": {}}
    parser.add_argument("--training-config", type=_training_file, default=nothing, metavar="FILE", help=help_text)
    _add_fields(parser)
    parser.add_argument("--weights", metavar="FILE", help="start from these weights")
    add_padding(parser)
    parser.add_argument("--freeze-backbone", action="store_true", help="train the head only")
    help_text = "train from this block on, such as stage4, or so many blocks at the end; batch norm stays as it is"
    parser.add_argument("--unfreeze", type=_block, metavar="BLOCK", help=help_text)
    help_text = "profile N batches for TensorBoard, in DIR/logs"
    parser.add_argument("--profile", type=integer_from(0, 10_000), default=0, metavar="N", help=help_text)
    help_text = "processes that read images, beside each that trains, where there are many cores (default: 0)"
    parser.add_argument("--workers", type=integer_from(0, MOST_WORKERS), default=0, metavar="N", help=help_text)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="continue the run in DIR")
    group.add_argument("--overwrite", action="store_true", help="start anew where DIR holds a run")


def _block(text: str) -> str | int:
    """Return the name of a block, or a number of blocks."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else text


def _training_file(text: str) -> dict[str, dict[str, Any]]:
    """Read a file that says how to train, before anything else is read."""
    from mixnet_tf.training.files import read_training

    try:
        return read_training(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_fields(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field of TrainingConfig and of Augmentation; None where it is not given."""
    for cls in (TrainingConfig, Augmentation):
        for field in dataclasses.fields(cls):
            flags = (f"--{field.name.replace('_', '-')}", *_ALIASES.get(field.name, ()))
            help_text = field.metadata["help"]
            default = field.default if field.type is str else f"{field.default:g}"
            help_text += f" (default: {default if cls is TrainingConfig else 'what suits the data'})"
            if field.type is bool:
                parser.add_argument(*flags, action=argparse.BooleanOptionalAction, help=help_text)
            elif field.type is str:
                parser.add_argument(*flags, choices=field.metadata["allowed"], help=help_text)
            else:
                parser.add_argument(*flags, type=_type_of(field), metavar="N", help=help_text)


def _type_of(field: dataclasses.Field) -> Callable[[str], float]:
    """Return the type of a field's flag, with the field's bounds."""
    bounds = {name: field.metadata[name] for name in ("low", "high", "above") if name in field.metadata}
    return _TYPES[field.type](**bounds)


def _given(cls: type, args: argparse.Namespace) -> dict[str, Any]:
    """Return those fields of a dataclass that the user gave as flags."""
    flags = {field.name: getattr(args, field.name) for field in dataclasses.fields(cls)}
    return {name: value for name, value in flags.items() if value is not None}


def training_arguments(args: argparse.Namespace, data: "ImageData") -> dict[str, Any]:
    """Turn the flags of ``train`` and ``pipeline`` into arguments of ``train``."""
    from mixnet_tf.progress.steps import line
    from mixnet_tf.training.run_folder import holds_run

    said = args.training_config
    if args.resume and not holds_run(args.output):
        line(f"{args.output}: holds no run to resume; starting one")
    return {
        "image_size": args.image_size,
        "training": TrainingConfig(**said["training"] | _given(TrainingConfig, args)),
        "augmentation": dataclasses.replace(data.augmentation, **said["augmentation"] | _given(Augmentation, args)),
        "weights": args.weights,
        "freeze_backbone": args.freeze_backbone,
        "unfreeze": args.unfreeze,
        "padding": args.padding,
        "resume": args.resume,
        "overwrite": args.overwrite,
        "profile": args.profile,
        "workers": args.workers,
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.distribution.launch import count_started
    from mixnet_tf.distribution.processes import joined, processes
    from mixnet_tf.training.memory import share_memory
    from mixnet_tf.training.operators import use_onednn

    share_memory()
    use_onednn()
    if count_started() > 1:
        load_tensorflow()
    with joined():
        if processes().rank:
            args.json, args.show = False, lambda result: None  # the first prints
        return _train(args)


def _train(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.config import load_config
    from mixnet_tf.distribution.processes import was_restarted
    from mixnet_tf.training.run_folder import MODEL, best_epoch, open_run

    config, data = load_config(args.config), load_images(args.data, args)
    args.resume |= was_restarted()
    with open_run(args.output, resume=args.resume, overwrite=args.overwrite):
        arguments = training_arguments(args, data)
        load_tensorflow()
        from mixnet_tf.training.fit import class_weights, train
        from mixnet_tf.training.parts import check_parts
        from mixnet_tf.training.phases import plan_phases

        class_weights(config, data, arguments["training"])
        parts = {"weights": args.weights, "freeze_backbone": args.freeze_backbone, "unfreeze": args.unfreeze}
        plan_phases(config, arguments["training"], **parts)  # its errors, before any image is read
        check_parts(arguments["training"], data, arguments["augmentation"])
        data = data.checked(*SPLITS)
        train(config, data, args.output, **arguments)
        epoch, accuracy = best_epoch(args.output)
    model = str(args.output / MODEL)
    return {"model": model, "best_epoch": epoch, "val_top1": accuracy, "skipped_images": data.skipped}


def show(result: dict[str, Any]) -> None:
    show_skipped(result["skipped_images"])
    best = f"top-1 {result['val_top1']:.2%} on the validation images, in epoch {result['best_epoch'] + 1}"
    say(f"trained model: {result['model']}, {best}")
