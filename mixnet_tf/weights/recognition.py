"""Whose names the tensors of a file have, and which of them belong together."""

import collections
import re
from collections.abc import Iterable

from mixnet_tf.errors import WeightsError
from mixnet_tf.weights.schemes import SCHEMES, Scheme

_IGNORED = re.compile(r"(?:^|[./])(?:num_batches_tracked|n_averaged|seed_generator_state)$")  # no weights


def recognize(names: Iterable[str], where: str) -> tuple[Scheme, dict[str, str]]:
    """Find out whose names these are, and strip what training wrappers put before them.

    Where several sets of weights stand side by side, the one under a prefix with ``ema`` is taken.

    Args:
        names: of all tensors.
        where: the file, for messages.

    Returns:
        The scheme, and the tensor's own name by its name without prefixes. Counters are left out.

    Raises:
        WeightsError: no scheme fits, or several sets of weights.

    Example:
        >>> recognize(["module.conv_stem.weight", "module.bn1.weight"], "a.pth")[1]
        {'conv_stem.weight': 'module.conv_stem.weight', 'bn1.weight': 'module.bn1.weight'}
    """
    names = [name for name in names if not _IGNORED.search(name)]
    votes = {key: _prefixes(names, scheme) for key, scheme in SCHEMES.items()}
    key = max(votes, key=lambda key: votes[key].total())
    scheme, prefixes = SCHEMES[key], votes[key]
    if not prefixes:
        shown = shorten(names) if names else "no tensor at all"
        titles = ", ".join(scheme.title for scheme in SCHEMES.values())
        raise WeightsError(f"{where}: not the weights of a MixNet: found {shown}, expected {titles}")
    # A few strays under another prefix are no second set: they are reported as unexpected.
    roots = [prefix for prefix, count in prefixes.items() if 2 * count > max(prefixes.values())]
    ema = [prefix for prefix in roots if re.search(r"(?<![a-z])ema", prefix.lower())]
    if len(roots) > 1 and len(ema) != 1:
        raise WeightsError(f"{where}: found {len(roots)} sets of weights, under {shorten(roots)}, expected one")
    chosen = ema[0] if len(roots) > 1 else roots[0]
    return scheme, _strip(names, scheme, chosen, roots, where)


def _prefixes(names: Iterable[str], scheme: Scheme) -> collections.Counter[str]:
    """Count the prefixes of backbone tensors; the ``backbone.`` next to them is no part of it."""
    pattern = re.compile(rf"((?:.+?{re.escape(scheme.separator)})?){scheme.body}")
    matches = (pattern.match(name) for name in names)
    return collections.Counter(match[1].removesuffix(f"backbone{scheme.separator}") for match in matches if match)


def _strip(names: Iterable[str], scheme: Scheme, root: str, roots: list[str], where: str) -> dict[str, str]:
    """Return the names of the set under `root` without prefixes, and strays as they are."""
    stripped: dict[str, str] = {}
    for name in names:
        owner = max((prefix for prefix in roots if name.startswith(prefix)), key=len, default=None)
        if owner not in (root, None):
            continue
        short = name.removeprefix(root if owner is not None else "").removeprefix(f"backbone{scheme.separator}")
        if short in stripped:
            raise WeightsError(f"{where}: {stripped[short]!r} and {name!r} name the same tensor, expected one of them")
        stripped[short] = name
    return _current_head(stripped)


def _current_head(stripped: dict[str, str]) -> dict[str, str]:
    """Name NetsPresso's head of a single layer as version 1.4 does; others have ``classifier`` or another index."""
    head = [name for name in stripped if name.startswith("head.")]
    single = re.compile(r"head\.classifier(?:\.[01])?\.(weight|bias)")
    leaves = [match[1] for name in head if (match := single.fullmatch(name))]
    if len(head) != 2 or sorted(leaves) != ["bias", "weight"]:
        return stripped
    return {single.sub(r"head.classifier.1.\1", name): original for name, original in stripped.items()}


def shorten(names: Iterable[str], limit: int = 10) -> str:
    """Join at most `limit` names for a message, and say how many more there are.

    >>> shorten(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    names = list(names)
    shown = ", ".join(repr(name if len(name) <= 100 else f"{name[:97]}...") for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
