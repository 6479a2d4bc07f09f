"""In which order a run trains the layers of its network: all at once, or first the head and then more."""

import dataclasses
from pathlib import Path

from mixnet_tf.config import ModelConfig
from mixnet_tf.errors import MixNetError
from mixnet_tf.training.config import TrainingConfig
from mixnet_tf.training.freezing import block_names, first_block

_LATER = 0.1
"""Share of the learning rate for blocks that train after the head: they are good already, and only to be tuned."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """Epochs in which the same layers train, with an optimizer and a schedule of their own.

    Attributes:
        epochs: counted from 0.
        learning_rate: its peak.
        unfreeze: where training begins, see ``unfreeze``; None: everywhere, and batch norm's statistics move.
    """

    epochs: range
    learning_rate: float
    unfreeze: str | int | None

    @property
    def name(self) -> str:
        """Return the name of its optimizer, by which a checkpoint tells the phase."""
        return f"from_epoch_{self.epochs.start}"


def plan_phases(
    config: ModelConfig,
    training: TrainingConfig,
    *,
    weights: str | Path | None = None,
    freeze_backbone: bool = False,
    unfreeze: str | int | None = None,
) -> tuple[Phase, ...]:
    """Return the phases of a run; arguments as in ``train``.

    Raises:
        MixNetError: arguments that contradict each other, or no such block.

    Example:
        >>> from mixnet_tf import load_config
        >>> training = TrainingConfig(epochs=10, freeze_epochs=4)
        >>> for phase in plan_phases(load_config("mixnet_s"), training, weights="w.keras", unfreeze="stage4"):
        ...     print(phase.epochs, phase.learning_rate, phase.unfreeze)
        range(0, 4) 0.002 0
        range(4, 10) 0.0002 stage4
    """
    freeze_backbone = freeze_backbone or config.freeze_backbone
    rate, whole, first = training.peak_rate, range(training.epochs), training.freeze_epochs
    if freeze_backbone and unfreeze is not None:
        raise MixNetError("freeze_backbone and unfreeze: found both, expected one: the first trains the head alone")
    if first and unfreeze is None:
        raise MixNetError(f"freeze_epochs: found {first} without unfreeze, which says what trains after them")
    if (freeze_backbone or unfreeze is not None) and not (weights or config.checkpoint.path):
        name = "freeze_backbone" if freeze_backbone else "unfreeze"
        raise MixNetError(f"{name}: needs weights to start from: without them, what is frozen stays random")
    if freeze_backbone:
        return (Phase(whole, rate, 0),)
    if unfreeze is not None:
        first_block(block_names(config), unfreeze, "unfreeze", fewest=1)
        unfreeze = unfreeze if isinstance(unfreeze, str) else int(unfreeze)  # of numpy, which JSON does not know
    if not first:
        return (Phase(whole, rate, unfreeze),)
    return Phase(whole[:first], rate, 0), Phase(whole[first:], _LATER * rate, unfreeze)
