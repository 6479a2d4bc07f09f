"""``mixnet-tf pipeline``: the whole path, from images to a report."""

import argparse
from typing import Any

from mixnet_tf.commands import train
from mixnet_tf.commands.arguments import add_graph, load_images
from mixnet_tf.commands.output import say, show_about, show_table
from mixnet_tf.progress.loading import load_tensorflow

HELP = "train, export, evaluate, time and report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    train.add_arguments(parser)
    add_graph(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    from mixnet_tf.config import load_config
    from mixnet_tf.distribution.launch import check_single
    from mixnet_tf.training.memory import share_memory
    from mixnet_tf.training.operators import use_onednn
    from mixnet_tf.training.run_folder import open_run

    share_memory()
    use_onednn()
    check_single("pipeline")
    config, data = load_config(args.config), load_images(args.data, args)
    with open_run(args.output, resume=args.resume, overwrite=args.overwrite):
        arguments = train.training_arguments(args, data)
        load_tensorflow()
        from mixnet_tf.pipeline import run_pipeline

        report = run_pipeline(config, data, args.output, data_source=args.data, graph=args.graph, **arguments)
    return report.to_dict() | {"report": str(args.output / "report.html")}


def show(result: dict[str, Any]) -> None:
    show_about(result)
    rows = []
    for model in result["results"]:
        measured, latency = model["evaluation"], model["latency"]
        agreement = "" if measured["agreement"] is None else f"{measured['agreement']:.2%}"
        speed = "" if latency is None else f"{latency['median_ms']:.2f}"
        rows.append((model["file"], f"{model['size_bytes'] / 1e6:.2f}", f"{measured['top1']:.2%}", agreement, speed))
    show_table(("file", "MB", "top-1", "agreement", "median ms"), rows)
    say()
    say(f"report: {result['report']}")
