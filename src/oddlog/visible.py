r"""Log content as text that shows what it holds: what would act on a screen is spelled out.

A terminal acts on ESC, a browser and a terminal on bidirectional overrides; a lone surrogate can be
written to neither. All are shown as Python would write them, ``\x1b`` or ``\u202e``.
"""

from __future__ import annotations


def escape(text: str) -> str:
    r"""Spell out what a screen would act on instead of showing: ``\x1b``, ``\n`` and the like.

    Example:
        >>> escape("red \x1b[31m alert")
        'red \\x1b[31m alert'
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def cut(text: str, limit: int) -> tuple[str, int]:
    """Return a text of at most ``limit`` characters and how many were left out of its middle.

    Two thirds of what is kept are its beginning, as both ends of a line tell; the place is marked
    by an ellipsis, which comes on top of the limit.

    Example:
        >>> cut("connection to 10.0.0.7 refused after 30 s", 12)
        ('connecti…30 s', 29)
    """
    if len(text) <= limit:
        return text, 0
    n_head = limit * 2 // 3
    return f"{text[:n_head]}…{text[len(text) - limit + n_head :]}", len(text) - limit
