"""The rules for Keras' own layers: what they leave in the graph, and Keras' own output of the same model."""

import keras
import numpy as np
import pytest
from keras import layers
from small import with_random_weights

from mixnet_tf.deploy.deploy import deploy_model
from mixnet_tf.deploy.kernels import MAX_TAPS
from mixnet_tf.errors import DeployError

SIZE = (9, 10)
BatchNorm = layers.BatchNormalization


def chain(*members, channels: int = 4) -> keras.Model:
    image = x = keras.Input((*SIZE, channels), name="image")
    for layer in members:
        x = layer(x)
    return with_random_weights(keras.Model(image, x))


def deployed(model: keras.Model) -> keras.Model:
    """Deploy a model, and compare the outputs."""
    graph = deploy_model(model, image_size=SIZE)
    images = np.random.default_rng(0).normal(0, 1, (3, *SIZE, model.input_shape[-1])).astype(np.float32)
    expected = np.asarray(model(images, training=False))
    actual = np.concatenate([graph(image[None], training=False) for image in images])
    assert np.abs(actual - expected).max() < 2e-6 * np.abs(expected).max()
    assert all(np.prod(layer.kernel_size) <= MAX_TAPS for layer in depthwise(graph))
    return graph


def kinds(graph: keras.Model) -> list[str]:
    """Return the kinds of layers behind the input; a reshape moves nothing."""
    return [type(layer).__name__ for layer in graph.layers[1:] if not isinstance(layer, layers.Reshape)]


def depthwise(graph: keras.Model) -> list[layers.DepthwiseConv2D]:
    return [layer for layer in graph.layers if isinstance(layer, layers.DepthwiseConv2D)]


@pytest.mark.parametrize(
    ("layer", "left"),
    [
        (lambda: layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False), ["Conv2D"]),
        (lambda: layers.Conv2D(6, (3, 1), strides=(1, 2)), ["Conv2D"]),
        (lambda: layers.Conv2D(8, 3, groups=2, dilation_rate=2), ["Conv2D"]),
        (lambda: layers.Conv2D(4, 3, groups=4), ["DepthwiseConv2D"]),
        (lambda: layers.DepthwiseConv2D(3, strides=2, padding="same"), ["DepthwiseConv2D"]),
        (lambda: layers.SeparableConv2D(6, 3, padding="same"), ["DepthwiseConv2D", "Conv2D"]),
        (lambda: layers.Dense(5, use_bias=False), ["Dense"]),
        (lambda: layers.Rescaling(1 / 7, offset=[1.0, 2.0, 3.0, 4.0]), ["DepthwiseConv2D"]),
    ],
)
@pytest.mark.parametrize("norm", [{}, {"scale": False}, {"center": False, "epsilon": 0.1}])
def test_a_batch_norm_is_folded_into_what_is_linear_before_it(layer, left, norm):
    graph = deployed(chain(layer(), BatchNorm(name="norm", **norm), layers.ReLU()))
    assert kinds(graph) == [*left, "ReLU"] and graph.layers[-2].name == "norm"


def test_a_batch_norm_behind_a_vector_is_folded_into_its_matrix_product():
    graph = deployed(chain(layers.GlobalAveragePooling2D(), BatchNorm(), layers.Dense(3), BatchNorm()))
    assert kinds(graph) == ["GlobalAveragePooling2D", "BatchNormalization", "Dense"]  # a vector's own stays


@pytest.mark.parametrize(
    "first",
    [layers.MaxPooling2D(2), layers.Conv2D(5, 1, activation="relu"), layers.DepthwiseConv2D(1, depth_multiplier=2)],
)
def test_a_batch_norm_behind_anything_else_becomes_one_operator(first):
    graph = deployed(chain(first, BatchNorm(name="norm")))
    assert not any(isinstance(layer, BatchNorm) for layer in graph.layers)
    assert kinds(graph)[-1] == "DepthwiseConv2D" and depthwise(graph)[-1].kernel_size == (1, 1)
    assert graph.layers[-1].name == "norm"


def test_a_convolution_with_two_readers_is_computed_once():
    image = keras.Input((*SIZE, 3))
    x = layers.Conv2D(4, 3, name="conv")(image)
    model = with_random_weights(keras.Model(image, layers.Add()([BatchNorm()(x), layers.ReLU()(x)])))
    assert sorted(kinds(deployed(model))) == ["Add", "Conv2D", "DepthwiseConv2D", "ReLU"]


def test_a_convolution_that_is_an_output_keeps_its_own_values():
    image = keras.Input((*SIZE, 3))
    x = layers.Conv2D(4, 3)(image)
    model = with_random_weights(keras.Model(image, [x, BatchNorm()(x)]))
    images = np.random.default_rng(0).normal(size=(1, *SIZE, 3)).astype(np.float32)
    for expected, actual in zip(model(images), deploy_model(model, image_size=SIZE)(images), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_reader_behind_dropout_counts():
    """Dropout is no part of the deploy graph: its reader then reads the convolution, as the other one does."""
    image = keras.Input((*SIZE, 3))
    x = layers.Conv2D(4, 3, name="conv")(image)
    model = keras.Model(image, layers.Add()([BatchNorm()(layers.Dropout(0.5)(x)), layers.ReLU()(x)]))
    deployed(with_random_weights(model))


def test_two_batch_norms_and_arithmetic_are_one_convolution():
    image = keras.Input((*SIZE, 3))
    x = 1 - BatchNorm()(BatchNorm()(layers.Conv2D(4, 3)(image))) * 2.0
    graph = deployed(with_random_weights(keras.Model(image, (x + 3.0) / 6.0)))
    assert kinds(graph) == ["Conv2D"] and len(graph.operations) == 2  # with the input


@pytest.mark.parametrize("constant", [np.array([2.0, 3.0, 4.0], np.float32), 127.5])
def test_arithmetic_on_an_image_is_one_operator(constant):
    image = keras.Input((*SIZE, 3))
    model = with_random_weights(keras.Model(image, layers.Conv2D(4, 3, padding="same")(image / constant - 1)))
    graph = deployed(model)
    assert kinds(graph) == ["DepthwiseConv2D", "Conv2D"] and len(graph.operations) == 5  # with the input and reshapes
    kernel, bias = depthwise(graph)[0].get_weights()
    np.testing.assert_allclose(kernel.reshape(-1, 3), np.tile(1 / constant, (10, 3 if np.ndim(constant) == 0 else 1)))
    np.testing.assert_array_equal(bias, -np.ones(30))


@pytest.mark.parametrize(
    ("width", "channels", "wide"),
    [(224, 3, (14, 48)), (225, 3, (15, 45)), (96, 4, (8, 48)), (96, 30, None), (97, 3, None)],
)
def test_few_channels_are_scaled_with_their_neighbours(width, channels, wide):
    image = keras.Input((2, width, channels))
    graph = deploy_model(keras.Model(image, layers.Rescaling(0.5, offset=1.0)(image)), image_size=(2, width))
    (layer,) = depthwise(graph)
    assert layer.output.shape[2:] == (wide or (width, channels))
    values = np.random.default_rng(0).normal(size=graph.input_shape).astype(np.float32)
    np.testing.assert_allclose(graph(values), values * 0.5 + 1, rtol=1e-6, atol=1e-6)


def test_arithmetic_between_layers_or_with_a_map_stays():
    image = keras.Input((*SIZE, 3))
    x = layers.ReLU()(image) * 0.5 + np.arange(10, dtype=np.float32)[:, None]
    graph = deployed(keras.Model(image, x))
    assert [type(operation).__name__ for operation in graph.operations] == ["InputLayer", "ReLU", "Multiply", "Add"]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("size", "strides", "dilation", "pieces"),
    [(7, 1, 1, 3), (7, 2, 1, 3), ((9, 3), 1, 1, 2), ((7, 5), 1, 2, 2), (5, 2, 1, 1)],
)
def test_a_depthwise_convolution_comes_in_pieces(padding, size, strides, dilation, pieces):
    layer = layers.DepthwiseConv2D(size, strides=strides, padding=padding, dilation_rate=dilation, name="b")
    graph = deployed(chain(layers.ZeroPadding2D(4), layer, BatchNorm()))
    assert kinds(graph).count("DepthwiseConv2D") == pieces and kinds(graph).count("Add") == pieces - 1


def test_grouped_and_separable_convolutions_come_in_pieces():
    grouped = deployed(chain(layers.Conv2D(4, 7, padding="same", groups=4, activation="relu", name="b")))
    assert kinds(grouped).count("DepthwiseConv2D") == 3 and grouped.layers[-1].name == "b"
    separable = deployed(chain(layers.SeparableConv2D(6, 7, strides=2, padding="same", name="b")))
    assert kinds(separable).count("DepthwiseConv2D") == 3 and separable.layers[-1].name == "b"


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        lambda: layers.SeparableConv2D(6, 3, depth_multiplier=2),
        lambda: layers.Conv2DTranspose(3, 3, strides=2),
        lambda: layers.PReLU(shared_axes=[1, 2]),
        lambda: layers.GroupNormalization(2),
        lambda: layers.LayerNormalization(axis=[1, 2]),
        lambda: BatchNorm(axis=1),
    ],
)
def test_what_no_rule_knows_is_copied(layer):
    assert kinds(deployed(chain(layer()))) == [type(layer()).__name__]


def test_padding_is_left_to_the_convolution_where_that_is_equal():
    for pads, left in [
        (((0, 1), (0, 1)), ["ZeroPadding2D", "Conv2D"]),  # 9 rows: "same" pads 1 and 1
        (((1, 1), (0, 1)), ["Conv2D"]),
    ]:
        graph = deployed(chain(layers.ZeroPadding2D(pads), layers.Conv2D(5, 3, strides=2), BatchNorm()))
        assert kinds(graph) == left
        assert graph.layers[-1].padding == ("valid" if "ZeroPadding2D" in left else "same")


def test_two_paddings_in_front_of_one_that_pads_itself_are_one():
    graph = deployed(chain(layers.ZeroPadding2D(1), layers.ZeroPadding2D(2), layers.Conv2D(5, 3, padding="same")))
    assert kinds(graph) == ["ZeroPadding2D", "Conv2D"] and graph.layers[1].padding == ((4, 4), (4, 4))


def test_what_normalizes_goes_into_a_convolution_that_does_not_pad():
    first = layers.Rescaling(1 / 255, offset=[-0.5, 0.1, 0.0, 2.0])
    assert kinds(deployed(chain(first, layers.Conv2D(5, 2, strides=2), layers.ReLU()))) == ["Conv2D", "ReLU"]
    assert kinds(deployed(chain(first, layers.Conv2D(5, 3, padding="same")))) == ["DepthwiseConv2D", "Conv2D"]
    assert kinds(deployed(chain(first, layers.Conv2D(4, 2, groups=2)))) == ["DepthwiseConv2D", "Conv2D"]


@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False, "epsilon": 0.1}])
def test_layer_norm_leaves_gamma_and_beta_to_the_dense_layer_behind_it(arguments):
    graph = deployed(chain(layers.LayerNormalization(**arguments), layers.Dense(6, activation="gelu")))
    assert kinds(graph) == ["Dense", "Activation"]
    assert kinds(deployed(chain(layers.LayerNormalization(**arguments)))) == ["DepthwiseConv2D"]


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")  # Keras', of get_config
def test_functions_that_keras_cannot_save_are_called_as_they_are():
    members = layers.Activation(lambda x: x * 2), layers.Conv2D(3, 1, activation=lambda x: keras.ops.relu(x) - 1)
    assert kinds(deployed(chain(*members))) == ["Activation", "Conv2D", "Activation"]


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_custom_code_inside_a_built_in_layer_is_named():
    model = chain(layers.PReLU(alpha_regularizer=lambda x: 0.0, name="mine"))
    with pytest.raises(DeployError, match=r"layer 'mine' \(PReLU\) holds custom code; expected Keras' own functions"):
        deploy_model(model, image_size=SIZE)


def test_augmentation_does_nothing_at_inference():
    members = layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomContrast(0.1), layers.Conv2D(3, 3)
    deployed(chain(*members, channels=3))


NETWORKS = {"MobileNetV3Small": 9, "ConvNeXtTiny": 0, "ResNet50V2": 0}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.exhaustive if name == "ResNet50V2" else pytest.mark.slow)
        for name in NETWORKS
    ],
)
def test_whole_networks_of_keras(name):
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None
    )
    with_random_weights(model)
    graph = deploy_model(model, image_size=64)
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    expected, actual = (np.asarray(net(images, training=False)) for net in (model, graph))
    assert np.abs(actual - expected).max() < 1e-4 * np.abs(expected).max()
    assert not any(isinstance(layer, BatchNorm | layers.LayerNormalization) for layer in graph.layers[:-4])
    assert all(np.prod(layer.kernel_size) <= MAX_TAPS for layer in depthwise(graph))
