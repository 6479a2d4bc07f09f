"""The numbers of a training run. Importing this module does not import TensorFlow."""

import dataclasses

from mixnet_tf.errors import MixNetError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How to train. Defaults suit a few thousand images from scratch.

    Attributes:
        epochs: passes over the training split.
        batch_size: images a step.
        learning_rate: its peak, after `warmup_epochs` of linear warm-up (at most half of all epochs); a cosine takes it
            to zero.
        weight_decay: AdamW's, on kernels and the scales of batch norm. With less, or on kernels alone, rare images (of
            printed pages among objects, say) may grow to fifty times the usual activations, which int8 cannot hold.
        range_penalty: weight of the penalty on tensors that few values stretch (``RangePenalty``). 0.2 was worth 2.5 dB
            of int8's logits for MixNet-S on photographs, whose problem they are, and nothing for two small networks.
            The losses of a run contain it.
        ema_epochs: the exponential moving average of the weights looks back about so many epochs.
        seed: of initialisation, order and augmentation.
    """

    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.5
    range_penalty: float = 0.0
    warmup_epochs: float = 3
    ema_epochs: float = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"epochs": 1, "batch_size": 1, "seed": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise MixNetError(f"{name}={value!r}, expected an integer from {least}")
        for name in ("learning_rate", "weight_decay", "range_penalty", "warmup_epochs", "ema_epochs"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise MixNetError(f"{name}={value!r}, expected a number from 0")
        if not self.learning_rate:
            raise MixNetError(f"learning_rate={self.learning_rate}, expected a number above 0")
