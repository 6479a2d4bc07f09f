"""The committed files are those that tests/fixtures/make.py makes."""

import pytest


@pytest.fixture(scope="module")
def make():
    """The script: it imports TensorFlow."""
    from fixtures import make

    return make


def test_every_file_has_its_maker(fixtures, make):
    committed = {str(path.relative_to(fixtures)) for path in fixtures.rglob("*") if "__pycache__" not in path.parts}
    wanted = {"make.py", "nano.keras", "tiny", "ops", "odd"} | {name for name, _ in make.files()}
    assert committed == wanted


def test_together_they_are_small(fixtures):
    assert sum(path.stat().st_size for path in fixtures.rglob("*") if path.suffix != ".pyc") < 1_250_000


@pytest.mark.slow
@pytest.mark.parametrize("part", ["tiny/", "nano_float32"])
def test_float_files_are_made_again_byte_by_byte(make, part, capsys):
    """Integer files hold scales found by running float kernels, which differ from CPU to CPU."""
    assert make.run(["--check", "--only", part]) == 0, f"run make.py --only {part}: {capsys.readouterr().out}"
