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
        weight_decay: on kernels and the scales of batch norm. With less, or on kernels alone, rare images (of
            printed pages among objects, say) may grow to fifty times the usual activations, which int8 cannot hold.
        range_penalty: weight of the penalty on tensors that few values stretch (``RangePenalty``). 0.2 was worth 2.5 dB
            of int8's logits for MixNet-S on photographs, whose problem they are, and nothing for two small networks.
            The losses of a run contain it.
        warmup_epochs: how long the learning rate rises.
        ema_epochs: the moving average of the weights looks back about so many epochs. It begins in the last quarter of
            the steps (``Averaging``).
        drop_path: see ``create_model``.
        initial_scale: share of the images' sides that the run begins with; they grow in four equal parts of the epochs,
            to whole images in the last (``size_in_epoch``). Validation sees whole images always. ``best.keras`` and
            ``last.keras`` of such a run take images of any size.
        optimizer: adamw; sgd with Nesterov's momentum of 0.9; rmsprop with a momentum of 0.9, as timm's MixNets have
            it. The weight decay of all is Keras': the share of a weight that a step takes, times the learning rate.
        schedule: cosine, or step: the learning rate is multiplied by `decay_rate` after every `decay_epochs`.
        decay_rate: see `schedule`.
        decay_epochs: see `schedule`; parts of an epoch count.
        base_batch: the batch that `learning_rate` is meant for: of another size, it grows in proportion. 0: never.
        clip_norm: longest gradient of all weights together; a longer one is shortened. 0: never.
        accumulate: batches whose gradients make one step of the optimizer.
        precision: of what the layers compute. The weights stay float32, and so does the model that the run ends with.
            With float16, the loss is scaled (``keras.optimizers.LossScaleOptimizer``).
        patience: the run ends after so many epochs that are no better than the best; with `freeze_epochs`, only those
            after them count. It may end before the weights are averaged, or the images are whole. 0: it never ends
            early.
        balance: weight the classes by images / (classes * images of the class), in the loss of training.
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
        default=2e-3, metadata={"low": 0, "above": True, "help": "peak learning rate"}
    )
    weight_decay: float = dataclasses.field(
        default=0.5, metadata={"low": 0, "help": "on kernels and batch-norm scales"}
    )
    range_penalty: float = dataclasses.field(
        default=0.0,
        metadata={"low": 0, "help": "weight of the penalty on tensors that few values stretch, for int8"},
    )
    warmup_epochs: float = dataclasses.field(default=3, metadata={"low": 0, "help": "epochs of linear warm-up"})
    ema_epochs: float = dataclasses.field(
        default=2, metadata={"low": 0, "help": "epochs that the moving average of the weights looks back"}
    )
    optimizer: str = dataclasses.field(
        default="adamw", metadata={"allowed": ("adamw", "sgd", "rmsprop"), "help": "what takes the steps"}
    )
    schedule: str = dataclasses.field(
        default="cosine", metadata={"allowed": ("cosine", "step"), "help": "how the learning rate falls"}
    )
    decay_rate: float = dataclasses.field(
        default=0.97, metadata={"low": 0, "high": 1, "above": True, "help": "factor of each fall of --schedule step"}
    )
    decay_epochs: float = dataclasses.field(
        default=2.4, metadata={"low": 0, "above": True, "help": "epochs between two falls of --schedule step"}
    )
    base_batch: int = dataclasses.field(
        default=0,
        metadata={"low": 0, "high": 1_000_000, "help": "batch that the learning rate is meant for; 0: whatever it is"},
    )
    clip_norm: float = dataclasses.field(
        default=0.0, metadata={"low": 0, "help": "longest gradient of all weights together; 0: any"}
    )
    accumulate: int = dataclasses.field(
        default=1, metadata={"low": 1, "high": 10_000, "help": "batches whose gradients make one step"}
    )
    precision: str = dataclasses.field(
        default="float32",
        metadata={
            "allowed": ("float32", "bfloat16", "float16"),
            "help": "of what the layers compute; weights stay float32",
        },
    )
    patience: int = dataclasses.field(
        default=0,
        metadata={"low": 0, "high": 1_000_000, "help": "epochs without a better validation to end after; 0: none"},
    )
    balance: bool = dataclasses.field(
        default=False, metadata={"help": "weight the classes so that all count the same, however many images they have"}
    )
    drop_path: float = dataclasses.field(
        default=0.0, metadata={"low": 0, "high": 0.99, "help": "share of residual branches left out in the last block"}
    )
    initial_scale: float = dataclasses.field(
        default=1.0,
        metadata={"low": 0.1, "high": 1, "help": "share of the image's sides that training begins with; it grows to 1"},
    )
    seed: int = dataclasses.field(
        default=0, metadata={"low": 0, "high": 2**32 - 1, "help": "of initialisation, order and augmentation"}
    )

    def __post_init__(self) -> None:
        checks.check_fields(self)
        if self.freeze_epochs >= self.epochs:
            expected = f"fewer than all epochs ({self.epochs})"
            raise ArgumentError(checks.complaint("freeze_epochs", self.freeze_epochs, expected))

    @property
    def peak_rate(self) -> float:
        """Return the highest learning rate: where there is a `base_batch`, that of as many images as make a step.

        >>> TrainingConfig(learning_rate=0.016, base_batch=256, batch_size=128, accumulate=4).peak_rate
        0.032
        """
        return self.learning_rate * (self.batch_size * self.accumulate / self.base_batch if self.base_batch else 1)
