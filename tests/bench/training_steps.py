"""Trains a MixNet-S step by step, as bench_training.py asks on standard input; prints JSON: CPU seconds, peak memory.

    python tests/bench/training_steps.py ENGINE --size 128 --batch 32 --width 1.0 --threads 1

Each line read is a number of steps, each line written {"seconds": of a step, "megabytes": of the process up to now,
"start": the seconds until the first step was done, imports included}.
ENGINE timm needs torch and timm, and nothing of mixnet_tf: it runs in an environment of its own.
"""

import argparse
import contextlib
import json
import resource
import sys
from collections.abc import Callable

import numpy as np

CLASSES, WARM_UP = 10, 2
UNTIL_THE_END = contextlib.ExitStack()


def timm(images: np.ndarray, labels: np.ndarray, width: float, threads: int) -> Callable[[], object]:
    """Eager torch on channels last, which is faster on a CPU than channels first."""
    import torch
    from timm.models import efficientnet

    torch.set_num_threads(threads)
    model = efficientnet._gen_mixnet_s("mixnet_s", channel_multiplier=width, num_classes=CLASSES)
    model = model.to(memory_format=torch.channels_last).train()
    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    y = torch.from_numpy(labels.astype(np.int64))
    mean, std = (
        255 * torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = model(((x.float() - mean) / std).contiguous(memory_format=torch.channels_last))
        loss_of(logits, y).backward()
        optimizer.step()
        average.update_parameters(model)
        (logits.argmax(1) == y).float().mean().item()

    return step


def ours(images: np.ndarray, labels: np.ndarray, width: float, threads: int) -> Callable[[], object]:
    """What ``train`` does."""
    from mixnet_tf.training.operators import use_onednn

    use_onednn()
    return chosen_by_tensorflow(images, labels, width, threads)


def chosen_by_tensorflow(images: np.ndarray, labels: np.ndarray, width: float, threads: int) -> Callable[[], object]:
    """Likewise, but TensorFlow says by itself whether it computes with oneDNN."""
    from mixnet_tf.training.memory import kept_memory, share_memory

    share_memory()
    UNTIL_THE_END.enter_context(kept_memory())
    return steps_of(images, labels, width, threads)


def returning(images: np.ndarray, labels: np.ndarray, width: float, threads: int) -> Callable[[], object]:
    """What ``train`` does, but memory goes back to the system."""
    from mixnet_tf.training.operators import use_onednn

    use_onednn()
    return steps_of(images, labels, width, threads)


def steps_of(images: np.ndarray, labels: np.ndarray, width: float, threads: int) -> Callable[[], object]:
    """Steps of a fresh network, in the process as it is."""
    import keras
    import tensorflow as tf

    from mixnet_tf import load_config
    from mixnet_tf.config import to_dict
    from mixnet_tf.model import create_model
    from mixnet_tf.training.config import TrainingConfig
    from mixnet_tf.training.phases import Phase
    from mixnet_tf.training.preparation import prepare_phase

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    config = to_dict(load_config("mixnet_s"))
    config["model"]["architecture"]["backbone"]["params"]["wid_mul"] = width
    loss = load_config(config).losses[0]
    shape = images.shape[1:]
    model = create_model(config, classes=CLASSES, input_shape=shape, classifier_activation=None)
    prepare_phase(model, loss, TrainingConfig(), 1000, Phase(range(40), 2e-3, None))
    targets = keras.utils.to_categorical(labels, CLASSES)
    return lambda: model.train_on_batch(images, targets)


def keras_own(images: np.ndarray, labels: np.ndarray, width: float, threads: int) -> Callable[[], object]:
    """What ``train`` does, with Keras' own batch norm."""
    from mixnet_tf.training.operators import use_onednn

    use_onednn()  # before Keras is imported
    from mixnet_tf.batch_norm import BatchNormalization

    BatchNormalization._fuses = lambda layer, inputs: False
    return ours(images, labels, width, threads)


ENGINES = {
    "timm": timm,
    "ours": ours,
    "keras": keras_own,
    "chosen": chosen_by_tensorflow,
    "returning": returning,
}


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.batch, args.size, args.size, 3), np.uint8)
    labels = np.arange(args.batch, dtype=np.int32) % CLASSES
    step = ENGINES[args.engine](images, labels, args.width, args.threads)
    step()
    start = cpu_seconds()
    for _ in range(WARM_UP):
        step()
    for line in sys.stdin:
        begun = cpu_seconds()
        for _ in range(int(line)):
            step()
        seconds = (cpu_seconds() - begun) / int(line)
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
        print(json.dumps({"seconds": seconds, "megabytes": megabytes, "start": start}), flush=True)


if __name__ == "__main__":
    main()
