"""How training images are varied. Importing this module does not import numpy: --help reads its fields."""

import dataclasses

from mixnet_tf import checks


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training images are varied.

    Attributes:
        min_area: smallest area of the random resized crop, as a fraction of the image; its aspect ratio is 3/4 to
            4/3 of the result's. A crop that would stick out is cut off at the image's edge.
        flip: mirror half of the images left to right.
        jitter: largest relative change of brightness, contrast and saturation.
        rand_level: strength of RandAugment, from 0 (none) to 10; 9 is timm's for MixNet, without colour jitter.
        rand_deviation: standard deviation of that strength.
        erase: how many of the images lose a rectangle to noise (random erasing), as a fraction.
        mixup: each image is blended with another of its batch, by a share from Beta(mixup, mixup); 0: none is.
        cutmix: each image gets a rectangle of another; its area is a share from Beta(cutmix, cutmix). With both, half
            of the batches are blended.
    """

    min_area: float = dataclasses.field(
        default=0.35, metadata={"low": 1e-3, "high": 1, "help": "smallest random crop, as a fraction of the image"}
    )
    flip: bool = dataclasses.field(default=True, metadata={"help": "mirror half of the training images"})
    jitter: float = dataclasses.field(
        default=0.2, metadata={"low": 0, "high": 1, "help": "strength of the colour jitter"}
    )
    rand_level: float = dataclasses.field(
        default=0.0, metadata={"low": 0, "high": 10, "help": "strength of RandAugment; 0: none"}
    )
    rand_deviation: float = dataclasses.field(
        default=0.5, metadata={"low": 0, "high": 10, "help": "standard deviation of that strength"}
    )
    erase: float = dataclasses.field(
        default=0.0, metadata={"low": 0, "high": 1, "help": "part of the images that lose a rectangle to noise"}
    )
    mixup: float = dataclasses.field(
        default=0.0, metadata={"low": 0, "high": 100, "help": "blend images in pairs, by Beta(N, N); 0: never"}
    )
    cutmix: float = dataclasses.field(
        default=0.0, metadata={"low": 0, "high": 100, "help": "paste a part of another image, by Beta(N, N); 0: never"}
    )

    def __post_init__(self) -> None:
        checks.check_fields(self, "augmentation.")

    @property
    def mixes(self) -> bool:
        """Whether an image has more than one class."""
        return bool(self.mixup or self.cutmix)
