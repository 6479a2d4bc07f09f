"""Networks, recipes and how to train: damaged as text, and valid YAML of the wrong shape, type and size."""

import copy
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.fuzz.cases import Case
from tests.fuzz.mutations import damaged

ROOT = Path(__file__).resolve().parents[3]
_SCALARS = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        7,
        63,
        64,
        2**31,
        10**18,
        10**30,
        0.0,
        0.5,
        -0.0,
        1e308,
        float("inf"),
        float("nan"),
    ),
    *("", "x", "relu", "\x1b[31mred", "a\nb", "<b>", "..", "-x", "\u0663", "\U0001f600", "x" * 5000, "2001-01-01", "~"),
    *([], {}, [[]], [None], {"a": 1}, {1: 2}, [1] * 300, [[3, 5]] * 50),
)
_TEXTS = (
    *(
        '!!int ""',
        "!!bool x",
        "!!timestamp x",
        "!!binary x",
        "!!python/object:os.system x",
        "!!set {a, b}",
        "!!float x",
    ),
    *("9" * 5000, "1" + ":59" * 3000, "0x" + "f" * 5000, "0b" + "1" * 9000, "2001-99-99", "&a [*a]", "*nothing"),
    *("[" * 3000, "{" * 2000, "&a [x, x, x]", "? [a]\n: b", "\t", "\x00", "\ufeff", "%YAML 9.9\n---", "<<: {a: 1}"),
    *("<<: *x", "- - - -", "'", '"\\x1b[31m"', "|", ">", "@", "`", "%"),
)


def _spots(value: Any, spots: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return (container, key) of everything inside a parsed file."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        spots.append((value, key))
        _spots(entry, spots)
    return spots


def change(random: Random, data: Any) -> None:
    """Change one value inside a parsed file."""
    spots = _spots(data, [])
    if not spots:
        return
    container, key = random.choice(spots)
    action = random.randrange(6)
    if action == 0:
        del container[key]
    elif action == 1:
        other, at = random.choice(spots)
        container[key] = (
            copy.deepcopy(other[at]) if at in (other if isinstance(other, dict) else range(len(other))) else 0
        )
    elif action == 2 and isinstance(container, dict):
        container[random.choice(["x", "", 0, None, True, f"{key}s", str(key).upper()])] = container.pop(key)
    elif action == 3 and isinstance(container, list):
        container.extend(copy.deepcopy(container[key : key + 1]) * random.choice((1, 2, 50)))
    else:
        container[key] = copy.deepcopy(random.choice(_SCALARS))


def _bomb(random: Random) -> str:
    """Return a text that grows when its aliases are followed."""
    width, depth = random.choice(((9, 9), (2, 40), (100, 5), (3000, 2)))
    lines = ["l0: &l0 [x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join(lines) + f"\nmodel: *l{depth - 1}\n"


def _text(random: Random, original: str) -> bytes:
    action = random.random()
    if action < 0.25:
        return damaged(random, original.encode())
    if action < 0.4:  # a value written as no dumper would write it
        lines = original.splitlines()
        hit = random.randrange(len(lines))
        lines[hit] = f"{lines[hit].split(':')[0]}: {random.choice(_TEXTS)}"
        return "\n".join(lines).encode(errors="surrogatepass")
    if action < 0.43:
        return _bomb(random).encode()
    if action < 0.44:
        return original.encode() + b"# \n" * 2**22
    data = yaml.safe_load(original)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        change(random, data)
    return yaml.safe_dump(data, allow_unicode=random.random() < 0.5).encode(errors="surrogatepass")


def config(random: Random, folder: Path) -> Case:
    """Count a damaged network."""
    original = random.choice(sorted((ROOT / "configs").glob("*.yaml"))).read_text()
    path = folder / "network.yaml"
    path.write_bytes(_text(random, original))
    return Case(["summary", str(path), *(["--json"] * random.randrange(2))])


def recipe(random: Random, folder: Path) -> Case:
    """Export with a damaged recipe, to a file that is there: a good recipe ends there, too."""
    original = random.choice(sorted((ROOT / "tflite" / "recipes").glob("*.yaml"))).read_text()
    path, output = folder / "recipe.yaml", folder / "there.tflite"
    path.write_bytes(_text(random, original))
    output.touch()
    return Case(["export", str(ROOT / "tests/fixtures/nano.keras"), "--recipe", str(path), "--output", str(output)])


def training_config(random: Random, folder: Path) -> Case:
    """Train as a damaged file says, on images that are missing: it is read before them."""
    original = random.choice(sorted((ROOT / "configs" / "training").glob("*.yaml"))).read_text()
    path = folder / "training.yaml"
    path.write_bytes(_text(random, original))
    command = ["train", "mixnet_nano", "--data", str(folder / "missing"), "--output", str(folder / "run")]
    return Case([*command, "--training-config", str(path)])


READERS = {"config": config, "recipe": recipe, "training_config": training_config}
