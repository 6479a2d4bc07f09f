"""Against timm itself, where it is installed (with PyTorch): its files load, its outputs are ours, and the reverse."""

import numpy as np
import pytest

from mixnet_tf.model import create_model
from mixnet_tf.weights.loading import export_state_dict, load_weights

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, not ours
torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
safetensors_torch = pytest.importorskip("safetensors.torch")

MODELS = ["mixnet_s", "mixnet_m", "mixnet_l", "mixnet_xl", "tf_mixnet_s", "tf_mixnet_m", "tf_mixnet_l"]


def randomized(name: str, seed: int):
    """A model of timm's as after training: batch-norm statistics and scales that are not those of initialization."""
    torch.manual_seed(seed)
    model = timm.create_model(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.02, 0.5)
            module.weight.data.uniform_(0.4, 1.2)
            module.bias.data.normal_(0, 0.2)
    return model


def run(model, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


def ours(name: str):
    padding = "same" if name.startswith("tf_") else "symmetric"
    return create_model(name.removeprefix("tf_"), padding=padding, classifier_activation=None)


@pytest.mark.parametrize("name", MODELS)
def test_timms_files_give_timms_outputs_and_ours_load_into_timm(name, tmp_path):
    theirs, model = randomized(name, seed=0), ours(name)
    safetensors_torch.save_model(theirs, str(tmp_path / "timm.safetensors"))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "timm.pth")
    load_weights(model, tmp_path / "timm.pth")
    from_pth = [np.asarray(variable) for variable in model.variables]
    load_weights(model, tmp_path / "timm.safetensors")
    assert all(np.array_equal(a, b) for a, b in zip(from_pth, model.variables, strict=True))
    state = export_state_dict(model, "timm", tmp_path / "ours.safetensors")
    back = timm.create_model(name).eval()
    back.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=True)
    loaded = timm.create_model(name, checkpoint_path=str(tmp_path / "ours.safetensors")).eval()
    for size in (64, 97):
        images = np.random.default_rng(size + 1).standard_normal((2, size, size, 3)).astype(np.float32)
        expected = run(theirs, images)
        for found in (model(images, training=False), run(back, images), run(loaded, images)):
            worst = np.abs(found - expected).max() / np.abs(expected).max()
            print(f"{name} {size}: {worst:.1e}")
            assert worst < 1e-4
