"""What the variables are called in timm and in NetsPresso Trainer."""

import numpy as np
import pytest
from states import prelu_config, random_state, same, small

from mixnet_tf.errors import WeightsError
from mixnet_tf.model import create_model
from mixnet_tf.weights.loading import export_state_dict, load_weights


def test_netspressos_head_of_one_layer():
    exported = export_state_dict(small(classes=7), "netspresso")
    # nn.Sequential(Dropout, Linear) in NetsPresso Trainer 1.4.1
    assert {name: value.shape for name, value in exported.items() if not name.startswith("backbone.")} == {
        "head.classifier.1.weight": (7, 1536),
        "head.classifier.1.bias": (7,),
    }


def test_prelu_and_long_heads_have_netspressos_names():
    model = create_model(prelu_config(3), classes=10)
    state = random_state(model, "netspresso")
    # (Linear, act) x 2, Dropout, Linear; one shared number a PReLU, named as the module holding it.
    expected = {f"head.classifier.{i}.{leaf}" for i in (0, 2, 5) for leaf in ("weight", "bias")}
    assert {name for name in state if name.startswith("head.")} == expected | {
        "head.classifier.1.weight",
        "head.classifier.3.weight",
    }
    assert state["head.classifier.0.weight"].shape == (5, 1536) and state["head.classifier.5.weight"].shape == (10, 5)
    prelus = {name for name in state if name.startswith("backbone.stages.1.0.") and state[name].shape == (1,)}
    assert prelus == {
        f"backbone.stages.1.0.{part}.weight" for part in ("expansion.act", "depth_wise.act", "se_block.activation")
    }
    load_weights(model, state)
    assert (
        float(model.get_layer("stage2_block1").se.act.alpha[0, 0, 0])
        == state["backbone.stages.1.0.se_block.activation.weight"]
    )
    again = create_model(prelu_config(3), classes=10)
    load_weights(again, export_state_dict(model, "netspresso"))
    assert same(again, model)


@pytest.mark.parametrize("old", ["head.classifier", "head.classifier.0"])
def test_heads_of_earlier_netspresso_versions(loaded, old):
    state = export_state_dict(loaded[0], "netspresso")
    renamed = {name.replace("head.classifier.1", old): value for name, value in state.items()}
    model = small()
    load_weights(model, renamed)
    assert same(model, loaded[0])


def test_timm_has_no_place_for_a_long_head():
    model = create_model(prelu_config(2), classes=10)
    with pytest.raises(WeightsError, match="timm's names have no place for a head of several layers"):
        export_state_dict(model, "timm")
    backbone = create_model(prelu_config(1), classes=10)
    state = random_state(backbone)
    with pytest.raises(WeightsError, match="head='fresh' keeps the model's own"):
        load_weights(model, state)
    before = np.asarray(model.get_layer("predictions").kernel)
    load_weights(model, state, head="fresh")
    assert np.array_equal(before, model.get_layer("predictions").kernel)
    assert float(model.get_layer("stage1_block1").depthwise_act.alpha[0, 0, 0]) == state["blocks.0.0.bn1.act.weight"]
