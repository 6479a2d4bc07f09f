"""A deploy graph that computes something else is refused, and the first layer that does is named."""

import keras
import numpy as np
import pytest
from marks import slow
from small import SMALL, backbone, block, with_random_weights

from mixnet_tf.deploy import builtin
from mixnet_tf.deploy.deploy import TARGETS, deploy_model
from mixnet_tf.deploy.verify import verify_deploy
from mixnet_tf.errors import DeployError
from mixnet_tf.litert.convert import at_image_size
from mixnet_tf.model import create_model


@pytest.mark.parametrize("built", [lambda model: at_image_size(model, 32), *slow(lambda model: model)])
def test_a_wrong_graph_is_refused_with_the_layer_where_it_begins(built):
    model = built(with_random_weights(create_model(SMALL, classes=3)))
    deployed = deploy_model(model, image_size=32)
    real = np.random.default_rng(1).uniform(-1, 1, (2, 32, 32, 3))
    assert verify_deploy(model, deployed, real) < 1e-5
    layer = deployed.get_layer("stage2_block1_depthwise0")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * 1.5, bias])
    with pytest.raises(DeployError, match=r"differs from it: it begins at layer 'stage2_block1' with"):
        verify_deploy(model, deployed, real)


@pytest.mark.parametrize("target", TARGETS)
def test_a_wrong_chunk_of_a_filled_graph_is_found(target):
    config = backbone(
        block(expansion_ratio=1, out_channels=12), block(out_channels=12, num_poi_groups=2, se_reduction_ratio=None)
    )
    model = with_random_weights(create_model(config, classes=3))
    deployed = deploy_model(model, image_size=8, target=target)
    layer = deployed.get_layer("stage2_block1_project1")
    assert layer.filters == {"int8": 6, "float": 8}[target]
    layer.set_weights([weight * 1.2 for weight in layer.get_weights()])
    with pytest.raises(DeployError, match="begins at layer 'stage2_block1'"):
        verify_deploy(model, deployed)


@pytest.mark.parametrize(("factor", "accepted"), [(1 + 5e-5, True), (1 + 2e-4, False), (np.nan, False)])
def test_the_largest_difference_is_a_ten_thousandth_of_the_largest_value(factor, accepted):
    """A linear network of one layer: its output times a factor differs by the factor minus 1, exactly."""
    image = keras.Input((4, 4, 2), name="image")
    model = keras.Model(image, keras.layers.Conv2D(3, 1, use_bias=False, name="conv")(image))
    deployed = deploy_model(model, image_size=4)
    conv = deployed.get_layer("conv")
    kernel, bias = conv.get_weights()
    conv.set_weights([kernel * factor, bias])
    if accepted:
        assert verify_deploy(model, deployed) == pytest.approx(factor - 1, rel=0.01)
        return
    with pytest.raises(DeployError, match=r"begins at output 0 with .* of the largest value, expected at most 1e-04"):
        verify_deploy(model, deployed)


@pytest.mark.parametrize("kind", ["scale", "shift"])
def test_a_wrong_fold_into_a_built_in_layer_is_refused(kind, monkeypatch):
    """A batch norm whose epsilon, or mean, is left out: what is easily forgotten."""
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3)(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(epsilon=1e-3)(x))
    model = with_random_weights(keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))))
    assert verify_deploy(model, deploy_model(model, image_size=16)) < 1e-5
    right = builtin.scale_and_shift

    def wrong(layer):
        scale, shift = right(layer)
        return (
            (np.asarray(layer.gamma / np.sqrt(layer.moving_variance)), shift) if kind == "scale" else (scale, 0 * shift)
        )

    monkeypatch.setattr(builtin, "scale_and_shift", wrong)
    with pytest.raises(DeployError, match="begins at output 0 with"):
        verify_deploy(model, deploy_model(model, image_size=16))


def test_images_of_another_size_are_refused():
    model = create_model(SMALL, classes=3)
    deployed = deploy_model(model, image_size=32)
    with pytest.raises(DeployError, match=r"images of shape \(2, 16, 32, 3\), expected \(n, 32, 32, 3\)"):
        verify_deploy(model, deployed, np.zeros((2, 16, 32, 3), np.float32))
