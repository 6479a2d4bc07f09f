"""Whether several processes can share a training: each takes an equal part of every batch."""

from mixnet_tf.checks import complaint
from mixnet_tf.data.dataset import ImageData
from mixnet_tf.distribution.processes import processes
from mixnet_tf.errors import ArgumentError, DataError
from mixnet_tf.training.config import TrainingConfig


def check_parts(training: TrainingConfig, data: ImageData) -> None:
    """Refuse what several processes would train otherwise than one does.

    Raises:
        MixNetError: batches that they cannot share equally, a loss that is no mean over images, or too few images.

    Example:
        >>> from mixnet_tf.data.sources import load_data
        >>> check_parts(TrainingConfig(batch_size=33), load_data("digits"))  # one process takes any batch
    """
    count = processes().count
    if count == 1:
        return
    train, val = (len(data.splits[name]) for name in ("train", "val"))
    if (size := min(training.batch_size, train)) % count:
        limit = "" if size == training.batch_size else f", at most the {train} images to train on"
        raise ArgumentError(complaint("batch_size", training.batch_size, f"a multiple of {count} processes{limit}"))
    if training.range_penalty:
        expected = f"0 in {count} processes: it is no mean over images, which could be taken in parts"
        raise ArgumentError(complaint("range_penalty", training.range_penalty, expected))
    import keras

    if (policy := keras.config.dtype_policy()).compute_dtype == "float16":
        problem = f"dtype policy: found {policy.name} in {count} processes, expected float32 or bfloat16"
        raise ArgumentError(f"{problem}: each would leave out other steps, by its own loss scale")
    if val < count:
        raise DataError(f"{data.name}: found {val} images in val, expected one for each of {count} processes at least")
