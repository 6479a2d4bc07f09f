"""A model, Keras' or a ``.tflite`` → its float graph: where an export begins."""

from pathlib import Path

import keras
import numpy as np
from ai_edge_litert.schema_py_generated import TensorType

from mixnet_tf.checks import ImageSize, one_of
from mixnet_tf.checks import image_size as checked_size
from mixnet_tf.data.input_format import prepare, settle
from mixnet_tf.data.labels import labels_beside
from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.deploy.front import front_of
from mixnet_tf.deploy.graphs import check_float, functional
from mixnet_tf.deploy.verify import verify_deploy
from mixnet_tf.errors import DeployError
from mixnet_tf.guard.trial import TRIAL
from mixnet_tf.litert.convert import at_image_size, convert
from mixnet_tf.litert.description import About, about_of, classes_of, labels_of
from mixnet_tf.litert.flatgraph import FlatGraph
from mixnet_tf.litert.front import lite_front
from mixnet_tf.litert.runtime import LiteModel
from mixnet_tf.quantization.recipe import Recipe
from mixnet_tf.quantization.types import Images, Int8Result
from mixnet_tf.training.run_models import crop_beside, size_beside

GRAPHS = ("deploy", "plain")
_SMALL_TYPES = {getattr(TensorType, name) for name in ("FLOAT16", "INT4", "INT8", "UINT8", "INT16")}


class KerasSource:
    """The float graphs of a Keras model; each is made and checked once, whatever is exported from it.

    Args:
        model: a classifier, or another model of one image.
        image_size: pixels: a side, or (height, width); default: the model's own.
        graph: ``"deploy"`` for the rewritten graph that LiteRT runs fast, ``"plain"`` for the model as it is.
        where: the model's file, for messages.
        input_format: what the model takes for an image, where its layers do not tell.

    Attributes:
        where: its file, or its name.
        about: what the model is called.
        labels: the names of its classes, as far as its file tells.
        crop_fraction: the part of a resized picture that it was trained to see, as far as its run tells.
        input_format: one of INPUT_FORMATS; None where it is not known.
        output_shapes: what it gives for one image.
        result: how the int8 of the last file came about; None where it has float arithmetic.

    Raises:
        MixNetError: the model takes images of any size and none is given, or not of this one; or another format.
    """

    notes: tuple[str, ...] = ()
    result: Int8Result | None = None

    def __init__(
        self,
        model: keras.Model,
        *,
        image_size: ImageSize | None = None,
        graph: str = "deploy",
        where: str | None = None,
        input_format: str | None = None,
    ):
        one_of("graph", graph, GRAPHS)
        check_float(model)
        size = _size_of(model, where) if image_size is None else image_size
        self._model, self._graph = at_image_size(model, size), graph
        self.where = where or model.name
        self.about = About(name=model.name)
        self.labels = None if where is None else labels_beside(where, model.outputs[0].shape[-1])
        self.crop_fraction = None if where is None else crop_beside(where)
        self.input_format = settle(front_of(model), input_format, self.where)
        self.image_size: tuple[int, int] = checked_size(tuple(self._model.inputs[0].shape[1:3]))
        self.output_shapes = [(1, *output.shape[1:]) for output in self._model.outputs]
        self._deployed: dict[str, keras.Model] = {}
        self._converted: dict[tuple[str, str], FlatGraph] = {}

    def float_graph(self, recipe: Recipe, images: Images) -> FlatGraph:
        """Return the graph to start from, in float16 where the recipe says so.

        Args:
            recipe: how the file is made.
            images: on which the deploy graph is compared with the model, besides random ones.

        Raises:
            DeployError: the deploy graph differs from the model, or one of them cannot be built or converted.
        """
        weights = "float16" if recipe.weights == "float16" else "float32"
        target = self._graph if self._graph == "plain" else "int8" if recipe.quantized else "float"
        if (target, weights) not in self._converted:
            model = self._model if target == "plain" else self._deploy(target, images)
            names = functional(self._model).output_names
            converted = convert(model, image_size=self.image_size, weights=weights, output_names=names)
            converted.input_format = self.input_format
            self._converted[target, weights] = converted
        return self._converted[target, weights]

    def _deploy(self, target: str, images: Images) -> keras.Model:
        if target not in self._deployed:
            deployed = deploy_model(self._model, image_size=self.image_size, target=target)
            prepared = [prepare(image, self.input_format, self.where) for image in images]
            verify_deploy(self._model, deployed, np.concatenate(prepared) if prepared else None)
            self._deployed[target] = deployed
        return self._deployed[target]


def _size_of(model: keras.Model, where: str | None) -> tuple[int, int]:
    size = model.inputs[0].shape[1:3]
    if None in size and where is not None:
        size = size_beside(where)
    if size is None or None in size:
        raise DeployError(f"{where or model.name}: takes images of any size; give the image size (--image-size)")
    return size


class TfliteSource:
    """A float32 ``.tflite`` from anywhere, taken as it is."""

    result: Int8Result | None = None

    def __init__(self, path: Path, image_size: ImageSize | None = None, input_format: str | None = None):
        TRIAL.prepare()
        self._graph = FlatGraph.read(path)
        self.where, model = str(path), LiteModel(self._graph)
        self.about = about_of(self._graph) or About(name=path.stem)
        classes = classes_of(self._graph)
        self.labels = labels_of(self._graph) or (None if classes is None else labels_beside(path, classes))
        self.crop_fraction = None  # what its file says stays there
        self.image_size = model.image_size
        self.notes = (f"{path.name} is taken as it is: only a .keras file can be rewritten as the deploy graph",)
        self._wanted_size = image_size
        self.output_shapes = [self._graph.shape(index) for index in self._graph.outputs]
        self.input_format = settle(lite_front(self._graph), input_format, str(path))

    def float_graph(self, recipe: Recipe, images: Images) -> FlatGraph:
        """Return the file's graph.

        Raises:
            DeployError: it is small already, has several subgraphs, or the recipe needs a Keras model.
        """
        graph, size = self._graph, self.image_size
        if {tensor.type for tensor in graph.tensors} & _SMALL_TYPES or recipe.weights == "float16":
            expected = "a .keras file" if recipe.weights == "float16" else "a float32 .tflite or a .keras file"
            raise DeployError(f"{self.where}: cannot be quantized with recipe {recipe.name}; expected {expected}")
        if len(graph.model.subgraphs) != 1:
            raise DeployError(f"{self.where}: a .tflite with {len(graph.model.subgraphs)} subgraphs, expected one")
        if recipe.quantized:
            LiteModel(self._graph, num_threads=2, kernels="builtin", keep_tensors=True)  # so it will be calibrated
        if self._wanted_size is not None and checked_size(self._wanted_size) != size:
            raise DeployError(
                f"{self.where}: takes images of {size[0]} x {size[1]}; the image size of a .tflite is fixed"
            )
        return graph
