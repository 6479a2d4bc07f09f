"""The optimizer of training: AdamW that averages the weights late, when that makes a better network at once."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mixnet_tf.distribution.processes import processes


@keras.saving.register_keras_serializable("mixnet_tf")
class AveragingAdamW(keras.optimizers.AdamW):
    """AdamW whose moving average of the weights begins at a step of its own; before, the average is the weights.

    While the learning rate is high, averaged weights do not go with batch norm's statistics, which are those of the
    weights themselves: a validation would tell nothing. Stochastic weight averaging starts late, too (Izmailov et al.
    2018, arXiv:1803.05407). The average begins as the plain mean of all steps from `average_from` on, and forgets older
    ones as soon as it holds as many as `ema_momentum` looks back on.

    Args:
        learning_rate: a number or a schedule.
        average_from: the step that the average begins with, counted from 0.
        **kwargs: of ``keras.optimizers.AdamW``.

    Example:
        >>> optimizer = AveragingAdamW(average_from=100, use_ema=True, ema_momentum=0.75)
        >>> [round(float(optimizer.momentum_at(step)), 2) for step in (0, 100, 101, 102, 103, 200)]
        [0.0, 0.0, 0.5, 0.67, 0.75, 0.75]
    """

    def __init__(self, learning_rate: Any = 0.001, average_from: int = 0, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.average_from = average_from

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, with which ``from_config`` builds the optimizer again."""
        return super().get_config() | {"average_from": self.average_from}

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take a step along the mean of all processes' gradients."""
        super().apply(processes().means(grads), trainable_variables)

    @property
    def averages(self) -> bool:
        """Whether the average differs from the weights by now."""
        return float(self.momentum_at(self.iterations)) > 0

    def momentum_at(self, step: Any) -> Any:
        """Return the momentum of the average at a step, counted from 0."""
        count = ops.maximum(ops.cast(step, "float32") - self.average_from, 0)
        return ops.minimum(count / (count + 1), self.ema_momentum)

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[Any]) -> None:
        momentum = self.momentum_at(self.iterations)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            share = ops.cast(momentum, variable.dtype)
            average.assign(share * average + (1 - share) * variable)
