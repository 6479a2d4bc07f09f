"""The numbers of a training run. Importing this module does not import TensorFlow."""

import dataclasses

from mixnet_tf import checks
from mixnet_tf.errors import ArgumentError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train. Defaults suit a few thousand images from scratch.

    Every field is a flag of ``mixnet-tf train``, which its metadata describes.

    Attributes:
        epochs: passes over the training split.
        batch_size: images per step.
        freeze_epochs: how many of the epochs train the head alone, before the blocks of ``train(unfreeze=…)`` do, too.
        learning_rate: its peak, after `warmup_epochs` of linear warm-up (at most half of all epochs); a cosine takes it
            to zero. After `freeze_epochs` it rises again, to a tenth, and falls.
        weight_decay: AdamW's, on kernels and the scales of batch norm. With less, or on kernels alone, rare images (of
            printed pages among objects, say) may grow to fifty times the usual activations, which int8 cannot hold.
        range_penalty: weight of the penalty on tensors that few values stretch (``RangePenalty``). 0.2 was worth 2.5 dB
            of int8's logits for MixNet-S on photographs, whose problem they are, and nothing for two small networks.
            The losses of a run contain it.
        warmup_epochs: how long the learning rate rises.
        ema_epochs: the moving average of the weights looks back about so many epochs. It begins in the last quarter of
            the steps (``AveragingAdamW``).
        drop_path: see ``create_model``.
        seed: of initialisation, order and augmentation.

    Raises:
        ArgumentError: a value out of range, or no epochs left after `freeze_epochs`.

    Example:
        >>> TrainingConfig(epochs=10).learning_rate
        0.002
    """

    epochs: int = dataclasses.field(
        default=40, metadata={"low": 1, "high": 1_000_000, "help": "passes over the training images"}
    )
    freeze_epochs: int = dataclasses.field(
        default=0, metadata={"low": 0, "high": 1_000_000, "help": "epochs that train the head alone, before --unfreeze"}
    )
    batch_size: int = dataclasses.field(default=32, metadata={"low": 1, "high": 1_000_000, "help": "images per step"})
    learning_rate: float = dataclasses.field(
        default=2e-3, metadata={"low": 0, "above": True, "help": "peak learning rate of AdamW"}
    )
    weight_decay: float = dataclasses.field(
        default=0.5, metadata={"low": 0, "help": "of AdamW, on kernels and batch-norm scales"}
    )
    range_penalty: float = dataclasses.field(
        default=0.0,
        metadata={"low": 0, "help": "weight of the penalty on tensors that few values stretch, for int8"},
    )
    warmup_epochs: float = dataclasses.field(default=3, metadata={"low": 0, "help": "epochs of linear warm-up"})
    ema_epochs: float = dataclasses.field(
        default=2, metadata={"low": 0, "help": "epochs that the moving average of the weights looks back"}
    )
    drop_path: float = dataclasses.field(
        default=0.0, metadata={"low": 0, "high": 0.99, "help": "share of residual branches left out in the last block"}
    )
    seed: int = dataclasses.field(
        default=0, metadata={"low": 0, "high": 2**32 - 1, "help": "of initialisation, order and augmentation"}
    )

    def __post_init__(self) -> None:
        checks.check_fields(self)
        if self.freeze_epochs >= self.epochs:
            expected = f"fewer than all epochs ({self.epochs})"
            raise ArgumentError(checks.complaint("freeze_epochs", self.freeze_epochs, expected))
