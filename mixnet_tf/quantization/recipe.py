"""How a model is quantized: the recipes of ``tflite/recipes`` as frozen dataclasses."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from mixnet_tf.data.choices import SCORES
from mixnet_tf.errors import ConfigError
from mixnet_tf.schema import boolean, field, name_of, optional, read_yaml, real, section, text

_TYPES = ("float32", "int8", "uint8")
_INT8_ONLY = ("input", "output", "equalize", "ranges", "bias_correction", "min_agreement")
BACKENDS = ("litert-quantizer", "tf.lite")

DYNAMIC_RANGE_REFUSED = (
    "dynamic-range int8 is refused: LiteRT's delegate has no such depthwise kernel, so it is slow, and it is known to "
    "ruin networks with squeeze-and-excitation and swish; take int8, or weight_int8 for float arithmetic"
)


def _activations(value: object, path: str) -> str:
    if value in ("dynamic", "dynamic_int8"):
        raise ConfigError(f"{path}: {DYNAMIC_RANGE_REFUSED}")
    return name_of("float32", "int8")(value, path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Equalization:
    """Which channels are rescaled: those of residual streams and other linear maps, and those that a ReLU rectifies."""

    streams: bool = field(boolean, True)
    relu: bool = field(boolean, True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to quantize.

    Attributes:
        name: what it is called.
        weights: ``"float32"``, ``"float16"`` or ``"int8"``.
        activations: ``"float32"`` or ``"int8"`` (then the weights are, too).
        input: ``"float32"`` or ``"int8"`` (normalized images), or ``"uint8"`` (pixels 0 to 255).
        output: ``"float32"``, ``"int8"`` or ``"uint8"``.
        pixels: whether a float file takes pixels from 0 to 255, whatever the model takes.
        scores: ``"softmax"``, ``"sigmoid"`` or ``"logits"``: what a classifier gives; None: what it ends in.
        labels: whether the file must hold the names of its classes.
        equalize: see ``mixnet_tf.quantization.equalize``.
        ranges: ``"minmax"``, ``"percentile"``, ``"mse"`` or ``"error"``; see ``mixnet_tf.quantization.ranges``.
        bias_correction: whether the mean error of every channel is put right in the biases.
        min_agreement: leave blocks in float32, by gain, until this share of top-1 classes is equal; None: leave none.
        backend: ``"litert-quantizer"`` or ``"tf.lite"``; None takes the first that is installed.
    """

    name: str = field(text)
    description: str | None = field(optional(text), None)
    weights: str = field(name_of("float32", "float16", "int8"), "float32")
    activations: str = field(_activations, "float32")
    input: str = field(name_of(*_TYPES), "float32")
    output: str = field(name_of(*_TYPES), "float32")
    pixels: bool = field(boolean, False)
    scores: str | None = field(optional(name_of(*SCORES)), None)
    labels: bool = field(boolean, False)
    equalize: Equalization = field(section(Equalization), Equalization())
    ranges: str = field(name_of("minmax", "percentile", "mse", "error"), "error")
    bias_correction: bool = field(boolean, True)
    min_agreement: float | None = field(optional(real(0, 1, expected="a fraction from 0 to 1, or null")), None)
    backend: str | None = field(optional(name_of(*BACKENDS)), None)

    def __post_init__(self) -> None:
        defaults = {entry.name: entry.default for entry in dataclasses.fields(self)}
        idle = [name for name in _INT8_ONLY if not self.quantized and getattr(self, name) != defaults[name]]
        for wrong, message in (
            (self.quantized and self.weights != "int8", f"weights: {self.weights!r}, but int8 activations need int8"),
            (
                self.scores in ("softmax", "sigmoid") and self.output != "float32",
                f"scores: {self.scores!r} needs output: float32, found {self.output!r}",
            ),
            (
                self.pixels and self.quantized,
                "pixels: true is for activations: float32; with int8, input: uint8 takes pixels",
            ),
            (idle, f"{', '.join(idle)}: any but the default needs activations: int8"),
            (
                self.backend is not None and self.weights != "int8",
                f"backend: {self.backend!r} quantizes to int8 and needs weights: int8, found {self.weights!r}",
            ),
            (
                self.backend == "tf.lite" and self.min_agreement is not None,
                "min_agreement needs backend: litert-quantizer, which can leave blocks in float32",
            ),
            (
                self.backend == "tf.lite" and self.weights == "int8" and not self.quantized,
                "weights: int8 with activations: float32 needs backend: litert-quantizer; tf.lite makes that "
                "dynamic-range int8",
            ),
        ):
            if wrong:
                raise ConfigError(message)

    @property
    def quantized(self) -> bool:
        """Whether the arithmetic is int8, so that the ranges of activations are needed."""
        return self.activations == "int8"

    @property
    def equalizes(self) -> bool:
        """Whether any channels are rescaled."""
        return self.equalize.streams or self.equalize.relu

    @property
    def changes(self) -> bool:
        """Whether a float32 file becomes another one."""
        return self.weights != "float32" or self.pixels or self.labels or self.scores is not None


def load_recipe(source: Recipe | str | Path | Mapping) -> Recipe:
    """Read a recipe by the name of a shipped one, from a YAML file or from a mapping.

    Raises:
        ConfigError: no such recipe, an unknown key, a wrong value, or values that do not go together.

    Example:
        >>> load_recipe("int8_uint8_io").input
        'uint8'
    """
    if isinstance(source, Recipe):
        return source
    if source in ("dynamic", "dynamic_int8", "dynamic_range"):
        raise ConfigError(DYNAMIC_RANGE_REFUSED)
    data = source if isinstance(source, Mapping) else read_yaml(source, "recipes")
    try:
        return section(Recipe)(data, "")
    except ConfigError as error:
        raise ConfigError(f"recipe {source if not isinstance(source, Mapping) else 'mapping'}: {error}") from error
