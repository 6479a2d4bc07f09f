import keras
import pytest


@pytest.fixture(scope="module")
def loaded() -> tuple[keras.Model, dict]:
    """A small network with weights that no initializer makes, and the timm state dict they come from."""
    from states import random_state, small

    from mixnet_tf.weights.loading import load_weights

    model = small()
    state = random_state(model)
    load_weights(model, state)
    return model, state


@pytest.fixture(scope="module")
def target() -> keras.Model:
    """Another one, to load into."""
    from states import small

    return small()
