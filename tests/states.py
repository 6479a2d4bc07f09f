"""State dicts for small networks, and what the networks make of them."""

import keras
import numpy as np
from golden.golden_weights import golden_images
from small import SMALL

from mixnet_tf.config import load_config, to_dict
from mixnet_tf.model import create_model
from mixnet_tf.weights.loading import export_state_dict


def small(**arguments) -> keras.Model:
    return create_model(SMALL, **{"input_shape": (32, 32, 3), "classes": 10} | arguments)


def prelu_config(num_layers: int) -> dict:
    """SMALL with PReLU everywhere, and a head of this many layers."""
    config = to_dict(load_config(SMALL))
    architecture = config["model"]["architecture"]
    for stage in architecture["backbone"]["stage_params"]:
        stage["act_type"] = ["prelu"] * len(stage["act_type"])
    architecture["head"]["params"] |= {"num_layers": num_layers, "intermediate_channels": 5, "act_type": "prelu"}
    return config


def random_state(model: keras.Model, names: str = "timm", seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors of the names and shapes that the model exports."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, value in export_state_dict(model, names).items():
        low, high = (0.02, 0.5) if name.endswith("running_var") else (-0.5, 0.5)
        counter = name.endswith("num_batches_tracked")
        state[name] = value if counter else rng.uniform(low, high, value.shape).astype(np.float32)
    return state


def without_classifier(state: dict) -> dict:
    return {name: value for name, value in state.items() if not name.startswith("classifier")}


def outputs(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(x) for x in keras.tree.flatten(model(golden_images(1, 32), training=False))]


def same(first: keras.Model, second: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(outputs(first), outputs(second), strict=True))
