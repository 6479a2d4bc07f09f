"""MixNet for Keras 3, from NetsPresso's YAML to a fast int8 ``.tflite``.

The names below are loaded on first use: importing the package, and reading a configuration, is quick and does not load
TensorFlow. Where Keras is loaded already, the layers, the optimizer and the metric are registered at once, so that
``keras.models.load_model`` finds them. A name that needs a package of the extra ``train`` raises ``PackageError`` where
that is not installed; what runs a ``.tflite`` needs none of them.
"""

import importlib
import sys
from typing import Any

_HOME = {
    "load_config": "config",
    "to_dict": "config",
    "MixNetError": "errors",
    "MixConv2D": "layers",
    "MixDepthBlock": "layers",
    "create_model": "model",
    "create_feature_extractor": "model",
    "MixNetS": "model",
    "MixNetM": "model",
    "MixNetL": "model",
    "MixNetXL": "model",
    "load_data": "data.sources",
    "preprocess_input": "data.pixels",
    "TrainingConfig": "training.config",
    "load_weights": "weights.loading",
    "export_state_dict": "weights.loading",
    "decode_predictions": "weights.imagenet",
    "train": "training.fit",
    "unfreeze": "training.freezing",
    "load_model": "saving",
    "evaluate": "evidence.evaluation",
    "compare": "evidence.comparison",
    "predict": "evidence.classifier",
    "Predictor": "evidence.prediction",
    "deploy_model": "deploy.deploy",
    "to_builtin": "deploy.unfolding",
    "convert": "litert.convert",
    "export": "exporting",
    "bundle": "bundles.making",
    "verify": "bundles.verification",
    "run_pipeline": "pipeline",
    "inspect_model": "litert.op_table",
    "cost_model": "costs.ledger",
    "benchmark": "evidence.benchmark",
    "start_up": "evidence.starting",
}
__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mixnet_tf' has no attribute {name!r}")
    from mixnet_tf.errors import missing_packages

    with missing_packages():
        return getattr(importlib.import_module(f"mixnet_tf.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "keras" in sys.modules:
    for room in ("layers", "optimizer", "accuracy"):
        importlib.import_module(f"mixnet_tf.{room}")
