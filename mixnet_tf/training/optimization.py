"""The optimizer of a phase, with its schedule, as the numbers of a run say."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from mixnet_tf.optimizer import Averaging, AveragingAdamW, AveragingRMSprop, AveragingSGD, LossScale, StepDecay
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.phases import Phase

_AVERAGE_FROM = 0.75  # of the steps, as in stochastic weight averaging

_OPTIMIZERS: Mapping[str, tuple[Callable[..., Averaging], Mapping[str, Any]]] = {
    "adamw": (AveragingAdamW, {}),
    "sgd": (AveragingSGD, {"momentum": 0.9, "nesterov": True}),
    "rmsprop": (AveragingRMSprop, {"rho": 0.9, "momentum": 0.9, "epsilon": 1e-3}),
}
"""By the name in a TrainingConfig, what takes the steps, and its arguments: those of timm's MixNets for RMSprop."""


def make_optimizer(training: TrainingConfig, steps: int, phase: Phase) -> Any:
    """Return the optimizer of a phase, with a loss scale around it for float16; it knows nothing yet.

    Args:
        training: of the run.
        steps: batches per epoch.
        phase: the epochs, the peak of the learning rate, and the optimizer's name.

    Example:
        >>> make_optimizer(TrainingConfig(optimizer="sgd"), 100, Phase(range(40), 0.1, None)).average_from
        3000
    """
    count = len(phase.epochs) * steps
    warmup = round(min(training.warmup_epochs, len(phase.epochs) / 2) * steps)
    make, arguments = _OPTIMIZERS[training.optimizer]
    optimizer = make(
        _SCHEDULES[training.schedule](training, steps, phase.learning_rate, count, warmup),
        average_from=int(_AVERAGE_FROM * count),
        weight_decay=training.weight_decay,
        global_clipnorm=training.clip_norm or None,
        gradient_accumulation_steps=training.accumulate if training.accumulate > 1 else None,
        use_ema=True,
        ema_momentum=max(0.0, 1 - 1 / max(1.0, training.ema_epochs * steps)),
        name=phase.name,
        **arguments,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "alpha"])
    return LossScale(optimizer, name=phase.name) if training.precision == "float16" else optimizer


def _cosine(training: TrainingConfig, steps: int, peak: float, count: int, warmup: int) -> Any:
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else peak,
        decay_steps=max(1, count - warmup),
        warmup_target=peak if warmup else None,
        warmup_steps=warmup,
    )


def _step(training: TrainingConfig, steps: int, peak: float, count: int, warmup: int) -> Any:
    return StepDecay(peak, training.decay_rate, training.decay_epochs * steps, warmup)


_SCHEDULES: Mapping[str, Callable[..., Any]] = {"cosine": _cosine, "step": _step}
