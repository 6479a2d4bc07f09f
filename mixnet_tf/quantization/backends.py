"""The two quantizers behind one interface: a float ``.tflite`` and the range of every tensor, to int8."""

import importlib.util
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mixnet_tf.errors import DeployError
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.quiet import quiet

Ranges = Mapping[str, tuple[float, float]]
"""Smallest and largest value of every computed tensor, by its name."""


def to_int8(content: bytes, ranges: Ranges, backend: str, float_names: Sequence[str] = ()) -> bytes:
    """Quantize weights, activations, input and output of a float ``.tflite`` to int8.

    Args:
        content: the float file.
        ranges: of every computed tensor.
        backend: ``"litert-quantizer"`` or ``"tf.lite"``.
        float_names: operators whose output's name holds one of these stay in float32 (litert-quantizer only).

    Raises:
        DeployError: a tensor has no range, or the back end is not installed or refuses the file.
    """
    graph = FlatGraph(content)
    missing = {graph.name(index) for index in graph.float_tensors()} - ranges.keys()
    if missing:
        raise DeployError(f"tensor {min(missing)!r} has no range; expected one of every computed tensor")
    return _run(_INT8[backend], content, ranges, float_names)


def weights_to_int8(content: bytes) -> bytes:
    """Store the weights of a float ``.tflite`` as int8, one scale an output channel; the arithmetic stays float."""

    def convert(content: bytes) -> bytes:
        from litert_quantizer import recipe

        return _litert_quantizer(content, recipe.weight_only_wi8_afp32(), None, ())

    return _run(convert, content)


def choose_backend(asked: str | None) -> str:
    """Return the back end to use: the one asked for, else litert-quantizer where it is installed, else tf.lite.

    Raises:
        DeployError: the one asked for is not installed.
    """
    installed = importlib.util.find_spec("litert_quantizer") is not None
    if asked == "litert-quantizer" and not installed:
        raise DeployError("backend litert-quantizer: not installed; install litert-quantizer, or take tf.lite")
    return asked or ("litert-quantizer" if installed else "tf.lite")


def _run(function: Callable[..., bytes], *arguments) -> bytes:
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # litert-quantizer opens the model with a debugging option, which warns
            content = function(*arguments)
    except Exception as error:  # both raise their own, undocumented kinds
        lines = " ".join(str(error).split()) or type(error).__name__
        raise DeployError(f"the quantizer refused the model: {lines[:200]}") from error
    return FlatGraph(content).content()  # a tenth smaller


def _int8_litert(content: bytes, ranges: Ranges, float_names: Sequence[str]) -> bytes:
    from litert_quantizer import recipe

    found = {name: {"min": np.array([low]), "max": np.array([high])} for name, (low, high) in ranges.items()}
    return _litert_quantizer(content, recipe.static_wi8_ai8(), found, float_names)


def _litert_quantizer(content: bytes, recipe, ranges: dict | None, float_names: Sequence[str]) -> bytes:
    from litert_quantizer.qtyping import TFLOperationName
    from litert_quantizer.quantizer import AlgorithmName, Quantizer

    logging.getLogger("absl").setLevel(logging.ERROR)
    quantizer = Quantizer(bytearray(content))
    quantizer.load_quantization_recipe(recipe)
    for name in float_names:
        quantizer.update_quantization_recipe(
            regex=f".*{re.escape(name)}.*",
            operation_name=TFLOperationName.ALL_SUPPORTED,
            algorithm_key=AlgorithmName.NO_QUANTIZE,
        )
    result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _int8_tf_lite(content: bytes, ranges: Ranges, float_names: Sequence[str]) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize  # what TFLiteConverter calls after its own calibration

    graph = FlatGraph(content)
    for index in graph.float_tensors():
        low, high = ranges[graph.name(index)]
        graph.tensors[index].quantization = schema.QuantizationParametersT(min=[float(low)], max=[float(high)])
    return mlir_quantize(graph.content(), fully_quantize=True, input_data_type=tf.int8, output_data_type=tf.int8)


_INT8 = {"litert-quantizer": _int8_litert, "tf.lite": _int8_tf_lite}
