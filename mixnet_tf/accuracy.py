"""Top-1 where the batches of a validation are padded, so that they can be cut into equal parts."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("mixnet_tf")
class PaddedAccuracy(keras.metrics.CategoricalAccuracy):
    """Keras' accuracy of logits, of those images alone that have a class: the padding has zeros in place of one.

    Example:
        >>> metric = PaddedAccuracy()
        >>> metric.update_state([[0, 1], [1, 0], [0, 0]], [[0.2, 0.8], [0.1, 0.9], [1.0, 0.0]])
        >>> float(metric.result())
        0.5
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch; Keras gives a metric no weights, unless it is asked to."""
        super().update_state(y_true, y_pred, ops.any(ops.convert_to_tensor(y_true) > 0, axis=-1))
