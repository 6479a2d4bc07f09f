"""The optimizers of training, which average the weights late, and the schedule of learning rates that Keras lacks."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mixnet_tf.distribution.processes import processes


class Averaging(keras.optimizers.Optimizer):
    """An optimizer whose moving average of the weights begins at a step of its own; before, the average is the weights.

    While the learning rate is high, averaged weights do not go with batch norm's statistics, which are those of the
    weights themselves: a validation would tell nothing. Stochastic weight averaging starts late, too (Izmailov et al.
    2018, arXiv:1803.05407). The average begins as the plain mean of all steps from `average_from` on, and forgets older
    ones as soon as it holds as many as `ema_momentum` looks back on. A step is a batch, also where several make one
    update.

    Args:
        learning_rate: a number or a schedule.
        average_from: the step that the average begins with, counted from 0.
        **kwargs: of Keras' optimizer.

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
        return float(self.momentum_at(self._iterations)) > 0

    def momentum_at(self, step: Any) -> Any:
        """Return the momentum of the average at a step, counted from 0."""
        count = ops.maximum(ops.cast(step, "float32") - self.average_from, 0)
        return ops.minimum(count / (count + 1), self.ema_momentum)

    def _update_model_variables_moving_average(self, trainable_variables: Sequence[Any]) -> None:
        momentum = self.momentum_at(self._iterations)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            share = ops.cast(momentum, variable.dtype)
            average.assign(share * average + (1 - share) * variable)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Decay as Keras does, but for the schedule, which it computes anew for every variable."""
        if self.weight_decay is None:
            return
        rate = self.learning_rate
        for variable in variables:
            if self._use_weight_decay(variable):
                decay, share = (ops.cast(number, variable.dtype) for number in (self.weight_decay, rate))
                variable.assign_sub(variable * decay * share)


@keras.saving.register_keras_serializable("mixnet_tf")
class AveragingAdamW(Averaging, keras.optimizers.AdamW):
    """AdamW with a late average.

    On TensorFlow, one operator updates a variable, where Keras writes a dozen: half of what there is to compile.
    """

    @property
    def _fuses(self) -> bool:
        return keras.backend.backend() == "tensorflow" and not self.amsgrad  # the operator knows nothing of AMSGrad

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take a step along the mean of all processes' gradients."""
        if self._fuses:
            step = ops.cast(self.iterations + 1, "float32")
            self._powers = [ops.power(beta, step) for beta in (self.beta_1, self.beta_2)]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable and its moments."""
        if not self._fuses:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        moments = (slots[self._get_variable_index(variable)].value for slots in (self._momentums, self._velocities))
        var, m, v = (tensor.handle for tensor in (variable, *moments))
        numbers = (*self._powers, learning_rate, self.beta_1, self.beta_2, self.epsilon, gradient)
        beta1_power, beta2_power, lr, beta1, beta2, epsilon, grad = (tf.cast(x, variable.dtype) for x in numbers)
        tf.raw_ops.ResourceApplyAdam(
            var=var,
            m=m,
            v=v,
            beta1_power=beta1_power,
            beta2_power=beta2_power,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            grad=grad,
        )


@keras.saving.register_keras_serializable("mixnet_tf")
class AveragingSGD(Averaging, keras.optimizers.SGD):
    """Stochastic gradient descent with a late average."""


@keras.saving.register_keras_serializable("mixnet_tf")
class AveragingRMSprop(Averaging, keras.optimizers.RMSprop):
    """RMSprop with a late average."""


@keras.saving.register_keras_serializable("mixnet_tf")
class LossScale(keras.optimizers.LossScaleOptimizer):
    """Keras' loss scale for float16, which counts the steps that it leaves out, too: a resumed run goes by them."""

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Make a step, unless a gradient is not finite."""
        super().apply(grads, trainable_variables)
        self._iterations.assign_add(1)


def averaging(optimizer: Any) -> Any:
    """Return the optimizer inside of a loss scale, or the optimizer itself.

    >>> averaging(LossScale(AveragingSGD(0.1, average_from=3))).average_from
    3
    """
    return getattr(optimizer, "inner_optimizer", optimizer)


@keras.saving.register_keras_serializable("mixnet_tf")
class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly, and is multiplied by a factor every so many steps, as timm's.

    Args:
        peak: the learning rate.
        factor: what it is multiplied by,
        every: after so many steps, counted from the first,
        warmup: where so many steps have gone by in which it rises from zero.

    Example:
        >>> schedule = StepDecay(0.8, factor=0.5, every=10, warmup=4)
        >>> [round(float(schedule(step)), 2) for step in (0, 2, 4, 9, 10, 20)]
        [0.0, 0.4, 0.8, 0.8, 0.4, 0.2]
    """

    def __init__(self, peak: float, factor: float, every: float, warmup: int) -> None:
        super().__init__()
        self.arguments = {"peak": peak, "factor": factor, "every": every, "warmup": warmup}

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0."""
        peak, factor, every, warmup = self.arguments.values()
        step = ops.cast(step, "float32")
        decayed = peak * ops.power(factor, ops.floor(step / every))
        return ops.where(step < warmup, peak * step / max(1, warmup), decayed)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, with which ``from_config`` builds the schedule again."""
        return self.arguments
