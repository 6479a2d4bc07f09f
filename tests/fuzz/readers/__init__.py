"""The readers by name. Each makes the case of one mutant from a random generator, in an empty folder."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz.cases import Case
from tests.fuzz.readers import (
    bundle_files,
    data_files,
    record_files,
    run_folders,
    tflite_files,
    weight_files,
    yaml_files,
)

READERS: dict[str, Callable[[Random, Path], Case]] = {
    **bundle_files.READERS,
    **data_files.READERS,
    **record_files.READERS,
    **run_folders.READERS,
    **yaml_files.READERS,
    **tflite_files.READERS,
    **weight_files.READERS,
}
