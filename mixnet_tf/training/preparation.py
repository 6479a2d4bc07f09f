"""Makes a model ready for a phase of training."""

import keras
import numpy as np

from mixnet_tf.accuracy import PaddedAccuracy
from mixnet_tf.config import LossConfig
from mixnet_tf.distribution.devices import cuts_batches
from mixnet_tf.sublayers import Composite
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.freezing import unfreeze
from mixnet_tf.training.optimization import make_optimizer
from mixnet_tf.training.phases import Phase
from mixnet_tf.training.range_penalty import penalize_ranges

_BATCH_NORM_MOMENTUM = 0.9
"""In place of the blocks' 0.99: after the first hundred steps, a third of their statistics would still be the initial 0
and 1, and no validation would tell anything."""


def prepare_phase(model: keras.Model, loss: LossConfig, training: TrainingConfig, steps: int, phase: Phase) -> None:
    """Freeze and compile the model as the phase has it; its optimizer has its variables, and knows nothing yet."""
    if phase.unfreeze is not None:
        unfreeze(model, phase.unfreeze)
    for layer in model.layers:
        for norm in layer.batch_norms if isinstance(layer, Composite) else ():
            norm.momentum = _BATCH_NORM_MOMENTUM
    if training.range_penalty:
        penalize_ranges(model, training.range_penalty)
    model.compile(
        make_optimizer(training, steps, phase),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=loss.label_smoothing),
        metrics=[PaddedAccuracy() if cuts_batches() else "accuracy"],
        jit_compile=keras.backend.backend() == "jax",  # there all is XLA; its depthwise gradients are slow on a CPU
    )
    _build_state(model)


def _build_state(model: keras.Model) -> None:
    """Make the variables of optimizer and metrics: made while a step is traced, they cost as much as it, twice."""
    model.optimizer.build(model.trainable_variables)
    nothing = np.zeros((1, *model.output.shape[1:]), "float32")
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()
