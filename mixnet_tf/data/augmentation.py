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
    """

    min_area: float = dataclasses.field(
        default=0.35, metadata={"low": 1e-3, "high": 1, "help": "smallest random crop, as a fraction of the image"}
    )
    flip: bool = dataclasses.field(default=True, metadata={"help": "mirror half of the training images"})
    jitter: float = dataclasses.field(
        default=0.2, metadata={"low": 0, "high": 1, "help": "strength of the colour jitter"}
    )

    def __post_init__(self) -> None:
        checks.check_fields(self, "augmentation.")
