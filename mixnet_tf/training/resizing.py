"""Progressive resizing: a run begins with small images, which cost less, and ends with whole ones."""

import math

STAGES = 4
"""Equal parts of a run, each with a size of its own, as in EfficientNetV2 (Tan & Le 2021, arXiv:2104.00298, section
4.2). The last, of whole images, has begun when the weights begin to be averaged."""

_MULTIPLE = 8


def size_in_epoch(epoch: int, epochs: int, size: tuple[int, int], initial_scale: float) -> tuple[int, int]:
    """Return the (height, width) of the images that an epoch trains on, in pixels: a multiple of 8, or the whole size.

    Args:
        epoch: counted from 0.
        epochs: of the run.
        size: (height, width) of whole images.
        initial_scale: see ``TrainingConfig``.

    Example:
        >>> [size_in_epoch(epoch, 6, (224, 160), 0.5) for epoch in range(6)]
        [(112, 80), (152, 104), (152, 104), (184, 136), (224, 160), (224, 160)]
    """
    stage = math.ceil(STAGES * (epoch + 1) / epochs) - 1  # of fewer epochs than stages, the first are left out
    scale = initial_scale + (1 - initial_scale) * stage / (STAGES - 1)
    height, width = (min(side, max(_MULTIPLE, round(scale * side / _MULTIPLE) * _MULTIPLE)) for side in size)
    return size if 1 in (scale, initial_scale) else (height, width)
