"""Names in Markdown: a class, file or tensor may be called anything, and still be a name in a report."""

import re

from mixnet_tf.errors import printable

_MARKS = re.compile(r"[\\`*\[\]<>|&~$#]|\b_|_\b|(?<!\w)_|_(?!\w)|^[-+]|(?<=^\d)[.)]")


def escaped(name: str) -> str:
    r"""Return a name as Markdown that shows it as it is, in a table, too.

    >>> escaped("model_int8.tflite"), escaped("a|b <b>*x*")
    ('model_int8.tflite', 'a\\|b \\<b\\>\\*x\\*')
    """
    return _MARKS.sub(lambda mark: f"\\{mark[0]}", printable(name))


def code(text: str) -> str:
    """Return a text as a code span, whatever backticks it holds.

    >>> code("ls"), code("a`b")
    ('`ls`', '`` a`b ``')
    """
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence, pad = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{pad}{printable(text)}{pad}{fence}"
