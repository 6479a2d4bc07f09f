"""LiteRT's interpreter: a ``.tflite`` that takes one image, run on the CPU. No other module opens an interpreter."""

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixnet_tf.checks import reason
from mixnet_tf.data.input_format import prepare
from mixnet_tf.errors import DeployError
from mixnet_tf.guard.trial import TRIAL
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.metadata import recorded_format
from mixnet_tf.progress.steps import step
from mixnet_tf.quiet import quiet

_RESOLVERS = {
    "delegate": "AUTO",  # XNNPACK, LiteRT's fast CPU path
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",  # LiteRT's own kernels
    "reference": "BUILTIN_REF",  # the plain ones, slow
}


class LiteModel:
    """A ``.tflite`` on LiteRT's interpreter.

    Args:
        source: a file or its graph, which are tried in a process of their own, or content that was made in this one.
        num_threads: CPU threads.
        kernels: ``"delegate"`` (XNNPACK), ``"builtin"`` or ``"reference"``.
        keep_tensors: keep every tensor of a run for ``value``; the delegate hides what it fuses.
        only_load: it will not be run: a file that LiteRT loads, but crashes on when it runs, is taken.

    Attributes:
        source: the file, for messages.
        interpreter: LiteRT's.
        input_format: one of INPUT_FORMATS, as the file says; None where it does not. It may be set.
        outputs: LiteRT's details of the outputs.

    Raises:
        DeployError: no such file, not a ``.tflite``, or an op that LiteRT does not have.

    Example:
        >>> model = LiteModel("model_int8.tflite")                                               # doctest: +SKIP
        >>> model(images).shape                                                                  # doctest: +SKIP
        (8, 10)
    """

    def __init__(
        self,
        source: str | Path | bytes | FlatGraph,
        *,
        num_threads: int = 1,
        kernels: str = "delegate",
        keep_tensors: bool = False,
        only_load: bool = False,
    ):
        settings = {"num_threads": num_threads, "resolver": _RESOLVERS[kernels], "keep_tensors": keep_tensors}
        content, self.source = _tried(source, **settings, only_load=only_load)
        with self._one_line("load"), quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that keeping all tensors is for debugging: it is what we do
            from ai_edge_litert.interpreter import Interpreter, OpResolverType

            self.interpreter = Interpreter(
                model_content=content,
                num_threads=num_threads,
                experimental_op_resolver_type=OpResolverType[_RESOLVERS[kernels]],
                experimental_preserve_all_tensors=keep_tensors,
            )
            self.interpreter.allocate_tensors()
            self._inputs = self.interpreter.get_input_details()
            self.outputs: list[dict[str, Any]] = self.interpreter.get_output_details()
        self.input_format = recorded_format(content)

    @contextlib.contextmanager
    def _one_line(self, action: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, RuntimeError, MemoryError) as error:
            raise DeployError(f"{self.source}: LiteRT cannot {action} it: {reason(error)}") from error

    @functools.cached_property
    def input(self) -> dict[str, Any]:
        """LiteRT's details of the one input.

        Raises:
            DeployError: several inputs, or one that is not an image of batch 1, in float or quantized.
        """
        if len(self._inputs) != 1:
            raise DeployError(self._counts())
        (details,) = self._inputs
        shape = [int(size) for size in details.get("shape_signature", details["shape"])]  # -1: of any size
        if shape and shape[0] == -1:  # as many images as one likes: LiteRT makes it as many as `shape` says
            shape[0] = int(details["shape"][0])
        if len(shape) != 4 or min(shape) < 1 or shape[0] != 1:
            expected = "an image: (1, height, width, channels)"
            raise DeployError(f"{self.source}: its input has shape {shape}, expected {expected}")
        if details["dtype"] != np.float32 and not details["quantization"][0]:
            name = details["dtype"].__name__
            raise DeployError(
                f"{self.source}: its input is {name} without a scale, expected float32 or quantized images"
            )
        return details

    @functools.cached_property
    def output(self) -> dict[str, Any]:
        """LiteRT's details of the one output.

        Raises:
            DeployError: several outputs.
        """
        if len(self.outputs) != 1:
            raise DeployError(self._counts())
        return self.outputs[0]

    def _counts(self) -> str:
        counts = f"{len(self._inputs)} inputs and {len(self.outputs)} outputs"
        return f"{self.source}: has {counts}, expected one of each"

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        _, height, width, _ = (int(size) for size in self.input["shape"])
        return height, width

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run images (n, height, width, channels) one by one; return the float output (n, classes).

        uint8 images are pixels, prepared as the file's input format says; float ones are what the input stands for.

        Raises:
            MixNetError: pixels for a file that does not say what it takes.
        """
        _ = self.output
        return np.concatenate([self.run(image[None])[0] for image in images])

    def run(self, image: np.ndarray) -> list[np.ndarray]:
        """Run one image (1, height, width, channels), pixels or floats as above; return every output in float."""
        return self.decoded(self.run_arrays([self.encoded(image)]))

    def encoded(self, image: np.ndarray) -> np.ndarray:
        """Return one image as the file's input has it, in its type."""
        return quantized(prepare(image, self.input_format, self.source), self.input)

    def decoded(self, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the first outputs, as ``run_arrays`` gives them, in float."""
        return [_decoded(value, details) for value, details in zip(outputs, self.outputs, strict=False)]

    def run_arrays(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run on every input in the file's own types; return every output in its own type."""
        with self._one_line("run"):
            for details, content in zip(self._inputs, inputs, strict=True):
                self.interpreter.set_tensor(details["index"], content)
        self.invoke()
        return [self.value(details["index"]) for details in self.outputs]

    def run_raw(self, image: np.ndarray) -> np.ndarray:
        """Run one image in the file's own input type; return the one output in its own type, (classes,)."""
        _ = self.input, self.output
        return self.run_arrays([image])[0][0]

    def invoke(self) -> None:
        """Run once on whatever the input holds."""
        with self._one_line("run"):
            self.interpreter.invoke()

    def value(self, index: int) -> np.ndarray:
        """Return a tensor of the last run, where all are kept."""
        with self._one_line("read a tensor of"):
            return self.interpreter.get_tensor(index)

    def fill_input(self, seed: int = 0) -> None:
        """Set the input to seeded random content of its type."""
        rng, shape, dtype = np.random.default_rng(seed), self.input["shape"], self.input["dtype"]
        limits = None if dtype == np.float32 else np.iinfo(dtype)
        content = rng.standard_normal(shape) if limits is None else rng.integers(limits.min, limits.max, shape)
        with self._one_line("run"):
            self.interpreter.set_tensor(self.input["index"], content.astype(dtype))


def _tried(source: str | Path | bytes | FlatGraph, **settings: object) -> tuple[bytes, str]:
    """Return the content of a source and its name, once it has been tried where it comes from a file."""
    if isinstance(source, bytes):
        return source, "the model"
    TRIAL.prepare()  # it starts while the file is read
    graph = source if isinstance(source, FlatGraph) else FlatGraph.read(source)
    with step(f"try {Path(graph.where).name} in a process of its own"):
        TRIAL.run(graph.content(), graph.where, **settings)
    return graph.content(), graph.where


def _decoded(value: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    scale, zero_point = details["quantization"]
    if not scale:
        return value.astype(np.float32, copy=False)
    return (value.astype(np.float32) - zero_point) * np.float32(scale)


def quantized(images: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """Return float images in the type of an interpreter's input, given its details."""
    scale, zero_point = details["quantization"]
    if not scale:
        return images.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    return np.clip(np.round(images / scale) + zero_point, limits.min, limits.max).astype(details["dtype"])
