"""The command line: ``mixnet-tf COMMAND`` or ``python -m mixnet_tf COMMAND``.

Results go to standard output (``--json`` for programs), progress to standard error. A mistake of the user ends with one
line and exit status 2. TensorFlow is imported by the commands that need it, so ``--help`` answers at once.
"""

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mixnet_tf import __version__
from mixnet_tf.errors import MixNetError

Printer = Callable[[Any], None]


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 2 for a user's mistake, 130 for Ctrl-C.

    Example:
        >>> main(["list", "--json"])                                                             # doctest: +SKIP
        0
    """
    args = _parser().parse_args(argv)
    try:
        result = args.run(args)
        if args.json:
            print(json.dumps(result, indent=2))
        else:
            args.show(result)
        sys.stdout.flush()
    except (MixNetError, OSError) as error:
        return _fail(error, args.command)
    except KeyboardInterrupt:
        hint = "; continue with --resume" if hasattr(args, "resume") else ""
        print(f"\nmixnet-tf {args.command}: interrupted{hint}", file=sys.stderr)
        return 130
    return 0


def _fail(error: Exception, command: str) -> int:
    if isinstance(error, BrokenPipeError):  # `mixnet-tf … | head`: not an error, and nothing more can be printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    message = str(error)
    if isinstance(error, OSError):
        message = f"{error.filename or 'output'}: {error.strerror or error}"
    print(f"mixnet-tf {command}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mixnet-tf", description="MixNet for Keras 3, from NetsPresso's YAML to a fast int8 .tflite.")
    parser.add_argument("--version", action="version", version=f"mixnet-tf {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, (help_text, add_arguments, run, show) in _COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=help_text)
        add_arguments(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        command.set_defaults(run=run, show=show)
    return parser


# ---- argument types and groups -------------------------------------------------------------------------------------


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1")
    return value


def _real(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 0")
    return value


def _fraction(text: str) -> float:
    value = _real(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a fraction from 0 to 1")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 0")
    return int(text)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a shipped name (see mixnet-tf list) or a .yaml file")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="D", help="'digits', a folder of images, or a .npz file")
    _add_bad_images(parser)


def _add_bad_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on-bad-image", choices=("error", "skip"), default="error", help="default: %(default)s")


def _add_image_size(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--image-size", type=_count, metavar="N", help=f"pixels of a side (default: {default})")


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def _add_graph(parser: argparse.ArgumentParser) -> None:
    help_text = "the fast rewritten graph, or the model converted as it is (default: %(default)s)"
    parser.add_argument("--graph", choices=("deploy", "plain"), default="deploy", help=help_text)


_RECIPE_FLAGS = {
    "epochs": (_count, "passes over the training images"),
    "batch_size": (_count, "images a step"),
    "learning_rate": (_real, "peak learning rate of AdamW"),
    "weight_decay": (_real, "of AdamW, on kernels"),
    "warmup_epochs": (_real, "epochs of linear warm-up"),
    "ema_epochs": (_real, "epochs the moving average of the weights looks back"),
    "seed": (_seed, "of initialisation, order and augmentation"),
}


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    _add_data(parser)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the run's folder")
    _add_image_size(parser, "the data's own, else 224")
    for name, (kind, help_text) in _RECIPE_FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=help_text)
    parser.add_argument("--min-area", type=_real, metavar="N", help="smallest random crop, as a fraction of the image")
    parser.add_argument("--no-flip", action="store_true", help="never mirror training images")
    parser.add_argument("--jitter", type=_real, metavar="N", help="strength of the colour jitter")
    parser.add_argument("--weights", metavar="FILE", help="start from these weights")
    parser.add_argument("--freeze-backbone", action="store_true", help="train the head only")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="continue the run in DIR")
    group.add_argument("--overwrite", action="store_true", help="start anew where DIR holds a run")


def _training_arguments(args: argparse.Namespace, config, data) -> dict:
    """Turn the flags of ``train`` and ``pipeline`` into arguments of ``training.train``."""
    from mixnet_tf.training import TrainingRecipe

    flags = vars(args)
    given = {name: flags[name] for name in _RECIPE_FLAGS if flags[name] is not None}
    changes = {name: flags[name] for name in ("min_area", "jitter") if flags[name] is not None}
    if args.no_flip:
        changes["flip"] = False
    return {
        "image_size": args.image_size or data.image_size or 224,
        "recipe": TrainingRecipe(**given),
        "augmentation": dataclasses.replace(data.augmentation, **changes),
        "weights": args.weights or config.checkpoint.path,
        "freeze_backbone": args.freeze_backbone or config.freeze_backbone,
        "resume": args.resume,
        "overwrite": args.overwrite,
        "on_bad_image": args.on_bad_image,
    }


# ---- commands: arguments, run, show --------------------------------------------------------------------------------


def _run_list(args: argparse.Namespace) -> dict:
    from mixnet_tf.config import load_config
    from mixnet_tf.schema import shipped_files

    return {
        "configs": {name: _totals(load_config(name)) for name in shipped_files("configs")},
        "recipes": list(shipped_files("recipes")),
    }


def _export_recipes() -> tuple[str, ...]:
    return ("float32", "float16", "int8")


def _totals(config) -> dict:
    from mixnet_tf.counting import count_stages

    rows = count_stages(config, image_size=(224, 224), classes=1000)
    return {"parameters": sum(row.parameters for row in rows), "macs": sum(row.macs for row in rows)}


def _show_list(result: dict) -> None:
    _table(
        ("config", "parameters", "MACs at 224 px, 1000 classes"),
        [(name, f"{own['parameters']:,}", f"{own['macs'] / 1e6:.1f} M") for name, own in result["configs"].items()],
    )
    print(f"\nrecipes: {', '.join(result['recipes'])}")


def _add_summary(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    _add_image_size(parser, "224")
    parser.add_argument("--classes", type=_count, default=1000, metavar="N", help="default: %(default)s")


def _run_summary(args: argparse.Namespace) -> dict:
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


def _show_summary(result: dict) -> None:
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
    _table(("stage", "blocks", "output", "channels", "kernels", "parameters", "MACs"), rows)
    print("\nMACs of convolutions and fully connected layers; parameters are the trainable ones.")


def _run_train(args: argparse.Namespace) -> dict:
    from mixnet_tf.config import load_config
    from mixnet_tf.data import load_data

    config, data = load_config(args.config), load_data(args.data)
    _load_tensorflow()
    from mixnet_tf.training import MODEL, train

    train(config, data, args.output, **_training_arguments(args, config, data))
    return {"model": str(args.output / MODEL), "skipped_images": sorted(data.bad_images)}


def _show_train(result: dict) -> None:
    _show_skipped(result["skipped_images"])
    print(f"trained model: {result['model']}")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .keras or .tflite file")
    _add_data(parser)
    _add_split(parser)
    parser.add_argument("--reference", metavar="OTHER", help="also compare with this model")
    _add_image_size(parser, "the model's own, else the data's, else 224")


def _run_evaluate(args: argparse.Namespace) -> dict:
    from mixnet_tf.data import load_data

    data = load_data(args.data)
    _load_tensorflow()
    from mixnet_tf.evaluation import evaluate

    result = evaluate(
        args.model,
        data,
        split=args.split,
        reference=args.reference,
        image_size=args.image_size,
        on_bad_image=args.on_bad_image,
    )
    return dataclasses.asdict(result) | {"skipped_images": sorted(data.bad_images)}


def _show_evaluate(result: dict) -> None:
    _show_skipped(result["skipped_images"])
    _table(("class", "top-1"), [(name, f"{value:.2%}") for name, value in result["per_class"].items()])
    print(f"\n{result['model']}: top-1 {result['top1']:.2%}, top-5 {result['top5']:.2%} of {result['count']} images")
    if result["reference"]:
        snr = "equal outputs" if result["snr_db"] is None else f"logit SNR {result['snr_db']:.1f} dB"
        print(f"against {result['reference']}: agreement {result['agreement']:.2%}, {snr}")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=Path, help="a .keras file")
    parser.add_argument("--recipe", required=True, choices=_export_recipes())
    parser.add_argument("--output", required=True, type=Path, metavar="F.tflite")
    parser.add_argument("--calibration", metavar="D", help="images for int8: 'digits', a folder or a .npz file")
    parser.add_argument(
        "--images", type=_count, default=200, metavar="N", help="how many of them (default: %(default)s)"
    )
    _add_graph(parser)
    _add_bad_images(parser)
    _add_image_size(parser, "the model's own")
    _add_overwrite(parser)


def _run_export(args: argparse.Namespace) -> dict:
    from mixnet_tf.data import load_data
    from mixnet_tf.files import check_free

    check_free(args.output, overwrite=args.overwrite)
    data = load_data(args.calibration) if args.calibration else None
    _load_tensorflow()
    from mixnet_tf.deploy.export import export
    from mixnet_tf.training import load_model

    model = load_model(args.model)
    own = model.input_shape[1:3]
    if args.image_size is None and None in own:
        raise MixNetError(f"{args.model}: takes images of any size; give --image-size")
    export(
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
    skipped = sorted(data.bad_images) if data else []
    return {"path": str(args.output), "size_bytes": args.output.stat().st_size, "skipped_images": skipped}


def _show_export(result: dict) -> None:
    _show_skipped(result["skipped_images"])
    print(f"{result['path']}: {result['size_bytes'] / 1e6:.2f} MB")


def _add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=Path, help="a .keras file, or a float32 .tflite from anywhere")
    parser.add_argument(
        "--recipe", required=True, metavar="R", help="a shipped name (see mixnet-tf list) or a .yaml file"
    )
    parser.add_argument("--calibration", metavar="D", help="real images: 'digits', a folder or a .npz file")
    parser.add_argument("--output", required=True, type=Path, metavar="F.tflite")
    parser.add_argument(
        "--images", type=_count, default=200, metavar="N", help="how many of them (default: %(default)s)"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="which ones (default: %(default)s)")
    parser.add_argument(
        "--min-agreement", type=_fraction, metavar="X", help="of int8_mixed: share of equal top-1 classes"
    )
    _add_bad_images(parser)
    _add_image_size(parser, "the model's own")
    _add_overwrite(parser)


def _run_quantize(args: argparse.Namespace) -> dict:
    from mixnet_tf.data import load_data
    from mixnet_tf.deploy.recipe import load_recipe

    recipe = load_recipe(args.recipe)
    data = load_data(args.calibration) if args.calibration else None
    _load_tensorflow()
    from mixnet_tf.deploy.quantize import quantize

    result = quantize(
        args.model,
        recipe,
        data,
        args.output,
        image_size=args.image_size,
        images=args.images,
        seed=args.seed,
        min_agreement=args.min_agreement,
        on_bad_image=args.on_bad_image,
        overwrite=args.overwrite,
    )
    return dataclasses.asdict(result)


def _show_quantize(result: dict) -> None:
    for note in result["notes"]:
        print(f"note: {note}")
    if result["float_blocks"]:
        print(f"blocks left in float32: {', '.join(result['float_blocks'])}")
    print(f"{result['path']}: {result['size_bytes'] / 1e6:.2f} MB, recipe {result['recipe']['name']}")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="the reference: a .keras or .tflite file")
    parser.add_argument("b", metavar="B", help="the other")
    _add_data(parser)
    _add_split(parser)
    _add_image_size(parser, "the models' own, else the data's, else 224")


def _run_compare(args: argparse.Namespace) -> dict:
    from mixnet_tf.data import load_data

    data = load_data(args.data)
    _load_tensorflow()
    from mixnet_tf.deploy.comparison import compare

    return dataclasses.asdict(
        compare(args.a, args.b, data, split=args.split, image_size=args.image_size, on_bad_image=args.on_bad_image)
    )


def _show_compare(result: dict) -> None:
    rows = [
        (result[name], f"{own['value']:.2%}", f"{own['low']:.2%} to {own['high']:.2%}", result[f"only_{name}_right"])
        for name, own in (("a", result["top1_a"]), ("b", result["top1_b"]))
    ]
    _table(("model", "top-1", "95 % interval", "only this one right"), rows)
    snr = "equal outputs" if result["snr_db"] is None else f"logit SNR {result['snr_db']:.1f} dB"
    print(
        f"\n{result['count']} images: agreement {result['agreement']:.2%}, {snr}, cosine {result['cosine']:.5f}, "
        f"McNemar p = {result['p_value']:.2g}"
    )


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: %(default)s")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="F.tflite", type=Path)


def _run_inspect(args: argparse.Namespace) -> dict:
    from mixnet_tf.deploy.delegation import inspect_model

    return dataclasses.asdict(inspect_model(args.model)) | {"path": str(args.model)}


def _show_inspect(result: dict) -> None:
    rows = [
        (
            f"{op['index']} {op['name']}",
            op["dtype"],
            _shape(op["outputs"][0]) if op["outputs"] else "",
            "yes" if op["delegated"] else f"NO: {op['reason']}",
            op["cliff"],
        )
        for op in result["ops"]
    ]
    _table(("op", "type", "output", "delegated", "performance cliff"), rows)
    print()
    for kind in ("inputs", "outputs"):
        for own in result[kind]:
            scale = "" if own["scale"] is None else f", scale {own['scale']:.6g}, zero point {own['zero_point']}"
            print(f"{kind.removesuffix('s')} {own['name']}: {own['dtype']} {_shape(own['shape'])}{scale}")
    outside = sum(not op["delegated"] for op in result["ops"])
    cliffs = sum(bool(op["cliff"]) for op in result["ops"])
    print(
        f"{result['path']}: {result['size_bytes'] / 1e6:.2f} MB, {len(result['ops'])} ops, "
        f"{outside} outside the delegate, {cliffs} performance cliffs"
    )


def _shape(sizes: Sequence[int]) -> str:
    return "x".join(str(size) for size in sizes)


def _add_import_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .safetensors, .npz, .pth, .keras or .weights.h5 file")
    parser.add_argument("--config", required=True, metavar="C", help="a shipped name or a .yaml file")
    parser.add_argument("--output", required=True, type=Path, metavar="F.keras")
    parser.add_argument("--padding", choices=("symmetric", "same"), default="symmetric",
                        help="same for the authors' own weights, tf_mixnet_* (default: %(default)s)")  # fmt: skip
    parser.add_argument("--allow-nan", action="store_true", help="take weights that are not finite")
    parser.add_argument("--check", metavar="IMAGE", help="print the five best classes of this image")
    _add_image_size(parser, "any size")
    _add_overwrite(parser)


def _run_import_weights(args: argparse.Namespace) -> dict:
    from mixnet_tf.config import load_config
    from mixnet_tf.files import check_free
    from mixnet_tf.preprocessing import decode, evaluation_pixels, preprocess_input

    if args.output.suffix != ".keras":
        raise MixNetError(f"{args.output}: expected a name that ends in .keras")
    check_free(args.output, overwrite=args.overwrite)
    config, image = load_config(args.config), decode(args.check) if args.check else None
    _load_tensorflow()
    from mixnet_tf.training import save_model
    from mixnet_tf.weights import import_weights

    model = import_weights(
        args.file, config, image_size=args.image_size, padding=args.padding, allow_nan=args.allow_nan
    )
    save_model(model, args.output, overwrite=args.overwrite)
    result = {"path": str(args.output), "classes": model.output_shape[-1]}
    if image is not None:
        pixels = evaluation_pixels(image, args.image_size or 224, 0.875)
        result["best"] = _best_classes(model.predict(preprocess_input(pixels[None]), verbose=0))
    return result


def _best_classes(scores) -> list[dict]:
    from mixnet_tf.pretrained import decode_predictions

    if scores.shape[1] == 1000:
        best = [(name, score) for _, name, score in decode_predictions(scores)[0]]
    else:
        best = [(str(i), scores[0, i]) for i in scores[0].argsort()[::-1][:5]]
    return [{"class": name, "score": float(score)} for name, score in best]


def _show_import_weights(result: dict) -> None:
    print(f"{result['path']}: {result['classes']} classes")
    if "best" in result:
        _table(("class", "score"), [(own["class"], f"{own['score']:.4f}") for own in result["best"]])


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", metavar="F.tflite", nargs="+")
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=_count, default=20, metavar="N", help="turns a model (default: %(default)s)")


def _run_benchmark(args: argparse.Namespace) -> list[dict]:
    from mixnet_tf.deploy.benchmark import benchmark

    latencies = benchmark(args.models, num_threads=args.threads, rounds=args.rounds)
    return [dataclasses.asdict(latency) for latency in latencies]


def _show_benchmark(result: list[dict]) -> None:
    milliseconds = ("min_ms", "median_ms", "p95_ms")
    rows = [(own["path"], *(f"{own[key]:.2f}" for key in milliseconds), f"{own['ratio']:.2f}") for own in result]
    _table(("model", "min ms", "median ms", "p95 ms", "ratio to the first"), rows)


def _add_pipeline(parser: argparse.ArgumentParser) -> None:
    _add_train(parser)
    _add_graph(parser)


def _run_pipeline(args: argparse.Namespace) -> dict:
    from mixnet_tf.config import load_config
    from mixnet_tf.data import load_data

    config, data = load_config(args.config), load_data(args.data)
    _load_tensorflow()
    from mixnet_tf.pipeline import run_pipeline

    training = _training_arguments(args, config, data)
    report = run_pipeline(config, data, args.output, data_source=args.data, graph=args.graph, **training)
    return report.to_dict() | {"report": str(args.output / "report.md")}


def _show_pipeline(result: dict) -> None:
    _show_skipped(result["skipped_images"])
    rows = []
    for own in result["results"]:
        accuracy, latency = own["evaluation"], own["latency"]
        agreement = "" if accuracy["agreement"] is None else f"{accuracy['agreement']:.2%}"
        speed = "" if latency is None else f"{latency['median_ms']:.2f}"
        rows.append((own["file"], f"{own['size_bytes'] / 1e6:.2f}", f"{accuracy['top1']:.2%}", agreement, speed))
    _table(("file", "MB", "top-1", "agreement", "median ms"), rows)
    print(f"\nreport: {result['report']}")


def _show_skipped(paths: Sequence[str]) -> None:
    if paths:
        print(f"skipped {len(paths)} unreadable images: {', '.join(paths[:5])}{' …' if len(paths) > 5 else ''}")


def _load_tensorflow() -> None:
    """Import TensorFlow without its start-up messages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from mixnet_tf.quiet import quiet

    with quiet():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns, the first to the left and the others to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, title in enumerate(header):
        table.add_column(title, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=1000, highlight=False, markup=False).print(table)


_COMMANDS: dict[str, tuple] = {
    "list": ("list the shipped configurations and recipes", lambda parser: None, _run_list, _show_list),
    "summary": ("show stages, parameters and MACs", _add_summary, _run_summary, _show_summary),
    "train": ("train a classifier", _add_train, _run_train, _show_train),
    "evaluate": ("measure accuracy, and distance from a reference", _add_evaluate, _run_evaluate, _show_evaluate),
    "export": ("convert a model to .tflite", _add_export, _run_export, _show_export),
    "compare": ("compare two models on the same images", _add_compare, _run_compare, _show_compare),
    "quantize": ("quantize so that the accuracy stays", _add_quantize, _run_quantize, _show_quantize),
    "inspect": ("list the ops of any .tflite, and which of them run fast", _add_inspect, _run_inspect, _show_inspect),
    "import-weights": (
        "turn timm's or NetsPresso's weights into a .keras model",
        _add_import_weights,
        _run_import_weights,
        _show_import_weights,
    ),
    "benchmark": ("time .tflite files in turns on LiteRT", _add_benchmark, _run_benchmark, _show_benchmark),
    "pipeline": ("train, convert, evaluate, time and report", _add_pipeline, _run_pipeline, _show_pipeline),
}
