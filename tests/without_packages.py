"""Commands and functions in a process of their own, which may be kept from importing some packages.

A line of JSON on standard input says what to do: ``refused`` packages, ``commands``, and ``files`` for the functions. A
line on standard output says what came of it.
"""

import contextlib
import dataclasses
import io
import json
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

import mixnet_tf
from mixnet_tf.cli import main


class Refusal:
    """A finder of modules that finds none of these packages, first of all finders."""

    def __init__(self, packages: Iterable[str]):
        self.packages = set(packages)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def run_command(arguments: list[str]) -> tuple[int, str, str]:
    """Return the status of a command, and what it prints."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(arguments)
    return status, output.getvalue(), errors.getvalue()


def call_functions(float32: str, int8: str, data: str) -> dict[str, Any]:
    """Return what the functions give that run a ``.tflite``."""
    with np.load(data) as arrays:
        pair = arrays["x_test"], arrays["y_test"]
    return {
        "predict": mixnet_tf.predict(int8, pair[0]).tolist(),
        "Predictor": mixnet_tf.Predictor(int8, labels=list("abcdefghij"))(pair[0][0], top=1)[0][0],
        "evaluate": dataclasses.asdict(mixnet_tf.evaluate(int8, pair)),
        "compare": dataclasses.asdict(mixnet_tf.compare(float32, int8, data)),
        "benchmark": [latency.path for latency in mixnet_tf.benchmark([float32, int8], rounds=1)],
        "cost_model": mixnet_tf.cost_model(int8).instructions,
        "start_up": [start.path for start in mixnet_tf.start_up([int8])],
        "inspect_model": dataclasses.asdict(mixnet_tf.inspect_model(int8)),
        "load_config": mixnet_tf.to_dict(mixnet_tf.load_config("mixnet_s")),
        "preprocess_input": mixnet_tf.preprocess_input(pair[0]).mean(),
    }


def call_what_needs_more(keras: str, int8: str, data: str) -> dict[str, str]:
    """Return the errors of functions that need what is refused."""
    attempts = {
        "MixNetS": lambda: mixnet_tf.MixNetS,
        "train": lambda: mixnet_tf.train,
        "export": lambda: mixnet_tf.export,
        "load_model": lambda: mixnet_tf.load_model,
        "load_data": lambda: mixnet_tf.load_data("digits"),
        "evaluate": lambda: mixnet_tf.evaluate(keras, data),
        "compare": lambda: mixnet_tf.compare(int8, keras, data),
        "predict": lambda: mixnet_tf.predict(keras, np.zeros((1, 32, 32, 3), np.uint8)),
    }
    errors = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            errors[name] = "none"
        except mixnet_tf.MixNetError as error:
            errors[name] = str(error)
    return errors


if __name__ == "__main__":
    task = json.loads(sys.stdin.readline())
    sys.meta_path.insert(0, Refusal(task["refused"]))
    keras, float32, int8, data = task["files"]
    answer = {
        "commands": [run_command(arguments) for arguments in task["commands"]],
        "functions": call_functions(float32, int8, data),
        "errors": call_what_needs_more(keras, int8, data),
    }
    print(json.dumps(answer, default=float))
