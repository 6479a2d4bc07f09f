"""A ``.tflite`` file on LiteRT's interpreter: one image in, one output."""

from pathlib import Path

import numpy as np

from mixnet_tf.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from mixnet_tf.errors import DeployError
from mixnet_tf.quiet import quiet


class LiteModel:
    """A ``.tflite`` with one image input of batch 1 and one output, run on LiteRT's CPU path (XNNPACK).

    Args:
        path: the file.
        num_threads: CPU threads.
        reference_kernels: run LiteRT's plain reference kernels instead (slow; for checking).

    Raises:
        DeployError: no such file, not a ``.tflite``, an op LiteRT does not have, or more than one input or output.

    Example:
        >>> model = LiteModel("model_int8.tflite")                                               # doctest: +SKIP
        >>> model(images).shape                                                                  # doctest: +SKIP
        (8, 10)
    """

    def __init__(self, path: str | Path, *, num_threads: int = 1, reference_kernels: bool = False):
        self.path = Path(path)
        self._interpreter = open_interpreter(self.path, num_threads, reference_kernels)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise DeployError(f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs, expected one of each")
        self.input, self.output = inputs[0], outputs[0]
        shape = [int(size) for size in self.input.get("shape_signature", self.input["shape"])]  # -1: of any size
        if len(shape) != 4 or min(shape) < 1 or shape[0] != 1:
            raise DeployError(f"{path}: its input has shape {shape}, expected an image: (1, height, width, channels)")
        if self.input["dtype"] != np.float32 and not self.input["quantization"][0]:
            name = self.input["dtype"].__name__
            raise DeployError(f"{path}: its input is {name} without a scale, expected float32 or quantized images")
        self.image_size = (shape[1], shape[2])
        self.classes = int(self.output["shape"][-1])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run normalized float images, (n, height, width, 3), one by one; return float outputs, (n, classes).

        A file that takes uint8 pixels, with a scale of 1, is given the pixels that the images were made from.
        """
        return np.stack([self._dequantized(self.run_raw(quantized(image[None], self.input))) for image in images])

    def run_raw(self, image: np.ndarray) -> np.ndarray:
        """Run one image in the file's own input type; return the output in its own type, (classes,)."""
        self._interpreter.set_tensor(self.input["index"], image)
        self.invoke()
        return self._interpreter.get_tensor(self.output["index"])[0]

    def invoke(self) -> None:
        """Run once on whatever the input holds."""
        self._interpreter.invoke()

    def fill_input(self, seed: int = 0) -> None:
        """Set the input to seeded random content of its type."""
        rng, shape, dtype = np.random.default_rng(seed), self.input["shape"], self.input["dtype"]
        limits = None if dtype == np.float32 else np.iinfo(dtype)
        content = rng.standard_normal(shape) if limits is None else rng.integers(limits.min, limits.max, shape)
        self._interpreter.set_tensor(self.input["index"], content.astype(dtype))

    def _dequantized(self, output: np.ndarray) -> np.ndarray:
        scale, zero_point = self.output["quantization"]
        return (output.astype(np.float32) - zero_point) * np.float32(scale) if scale else output.astype(np.float32)


def quantized(images: np.ndarray, details: dict) -> np.ndarray:
    """Return normalized float images in the type of an interpreter's input, given its details.

    A uint8 input with a scale of 1 takes the pixels that the images were made from.
    """
    scale, zero_point = details["quantization"]
    if not scale:
        return images.astype(details["dtype"])
    if details["dtype"] == np.uint8 and (scale, zero_point) == (1.0, 0):
        images = to_pixels(images)
    limits = np.iinfo(details["dtype"])
    return np.clip(np.round(images / scale) + zero_point, limits.min, limits.max).astype(details["dtype"])


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Undo ``preprocess_input``: normalized images to whole float32 pixels from 0 to 255."""
    return np.round((images * IMAGENET_STD + IMAGENET_MEAN) * 255).astype(np.float32)


def open_interpreter(path: Path, num_threads: int = 1, reference_kernels: bool = False):
    """Return an allocated LiteRT interpreter; DeployError in one line where the file cannot be loaded."""
    if not path.is_file():
        raise DeployError(f"{path}: no such file; expected a .tflite")
    try:
        with quiet():
            from ai_edge_litert.interpreter import Interpreter, OpResolverType

            resolver = OpResolverType.BUILTIN_REF if reference_kernels else OpResolverType.AUTO
            interpreter = Interpreter(
                model_path=str(path), num_threads=num_threads, experimental_op_resolver_type=resolver
            )
            interpreter.allocate_tensors()
            interpreter.get_input_details(), interpreter.get_output_details()  # fail for names that are not UTF-8
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DeployError(f"{path}: LiteRT cannot load it: {reason}") from error
    return interpreter
