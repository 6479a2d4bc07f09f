"""The C program, and models for it."""

from pathlib import Path

import pytest
from native_builds import VARIANTS, Absent, Built, build

from mixnet_tf.bundles import bundle

SLOW, EXHAUSTIVE = pytest.mark.slow, pytest.mark.exhaustive
MARKS = {"c": (), "cpp": SLOW, "sanitized": SLOW, "valgrind": EXHAUSTIVE, "arm64": EXHAUSTIVE}


@pytest.fixture(scope="session", params=[pytest.param(name, marks=MARKS[name]) for name in VARIANTS])
def built(request, tmp_path_factory) -> Built:
    """The program as C; in slower tests also as C++, with sanitizers, under valgrind, and on an emulated arm64."""
    try:
        return build(request.param, tmp_path_factory.mktemp(f"native_{request.param}"))
    except Absent as reason:
        pytest.skip(f"{request.param}: {reason}")


@pytest.fixture(scope="session")
def models(nano_mobile, nano_mobile_float32) -> dict[str, Path]:
    """The trained nano as the file to ship, and its float twin, by their names in a bundle."""
    return {"model.tflite": nano_mobile, "model_float32.tflite": nano_mobile_float32}


@pytest.fixture(scope="session")
def made(models, digits, tmp_path_factory) -> Path:
    """A bundle of both."""
    folder, test = tmp_path_factory.mktemp("made") / "to ship", digits.splits["test"]
    data = test.images[:20], test.labels[:20]
    bundle(models["model.tflite"], folder, data=data, float32=models["model_float32.tflite"])
    return folder
