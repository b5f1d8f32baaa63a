r"""What names a session has to be masked: else each session has templates of its own.

A regex that finds ids in messages is a mask as it stands (``session_step``). An id that a field
names may stand in the message too, where no pattern tells it from another word: there a fixed word
is written for it (``write_word``), which a mask finds.
"""

from __future__ import annotations

import re

import polars as pl

SESSION_WORD = "THIS_SESSION"
"""What stands for an id that a field names, until the mask finds it."""
FIELD = re.compile(r"[A-Za-z_@][\w.@-]*")
"""What is the name of a field, if there is such a field, and not a regex."""

_FLAGS = re.compile(r"(?:\(\?[a-zA-Z]+\))*")
_PART = re.compile(
    r"\\."  # an escape
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]"  # a class
    r"|\(\?P?<\w+>|\(\?[a-zA-Z-]*[:)]|[()|]"  # what opens a group, sets flags, closes, separates
)


def session_pattern(session_by: str) -> str:
    r"""Return what ``Masks.session`` has to be where a regex or a field gives sessions.

    It is the regex. It is ``SESSION_WORD`` where that alone does not say what to mask: the name of
    a field, a regex that finds the empty text, one whose group is in another or in an alternative.

    Example:
        >>> print(session_pattern(r"req_\d+"), session_pattern("request_id"))
        req_\d+ THIS_SESSION
    """
    if FIELD.fullmatch(session_by) or pl.Series([""]).str.contains(session_by).item():
        return SESSION_WORD
    return SESSION_WORD if _around_group(session_by) is None else session_by


def session_step(session: str) -> str:
    r"""Return the pattern that masks what a regex names: its group, or all that it finds.

    What goes on behind that is of the same word: ``blk_7`` of ``blk_7_1001``.

    Raises:
        ValueError: The regex has its group in another or in an alternative.

    Example:
        >>> print(session_step(r"user=(\w+);"))
        (?P<keep>user=)(?:\w+)(?P<after>;)
    """
    if session == SESSION_WORD:
        return rf"\b{SESSION_WORD}\b"
    parts = _around_group(session)
    if parts is None:
        raise ValueError(f"session {session!r}: the group is in another, or in an alternative")
    flags, before, inside, after = parts
    kept = f"(?P<keep>{before})" if before else ""
    return f"{flags}{kept}(?:{inside})" + (f"(?P<after>{after})" if after else r"\w*")


def write_word(texts: pl.Series, ids: pl.Series) -> pl.Series:
    """Write ``SESSION_WORD`` for the id of each text, but where it is a part of a longer word.

    Args:
        texts: (n,) String.
        ids: (n,) String, none empty.

    Example:
        >>> write_word(pl.Series(["r-a got r-a, not xr-a"]), pl.Series(["r-a"])).item()
        'THIS_SESSION got THIS_SESSION, not xr-a'
    """
    here, kept = "\ue000", "\ue001"  # of the private characters, which logs do not hold
    table = pl.DataFrame({"text": texts, "id": ids})
    marked = pl.col("text").str.split(pl.col("id")).list.join(here)
    marked = marked.str.replace_all(rf"(\w){here}", rf"${{1}}{kept}")
    marked = marked.str.replace_all(rf"{here}(\w)", rf"{kept}${{1}}")
    written = marked.str.replace_all(here, SESSION_WORD, literal=True)
    return table.select(written.str.split(kept).list.join(pl.col("id"))).to_series()


def _around_group(regex: str) -> tuple[str, str, str, str] | None:
    """Return flags, what stands before the group, in it, and after it; None if it is not so simple.

    A regex without a group is as one group.
    """
    flags = _FLAGS.match(regex)
    head = flags[0] if flags else ""
    body = regex[len(head) :]
    group: re.Match[str] | None = None
    depth, end, has_bar = 0, -1, False
    for part in _PART.finditer(body):
        sign = part[0]
        if sign == ")":
            depth -= 1
            end = part.start() if group and end < 0 and not depth else end
        elif sign == "|":
            has_bar |= not depth
        elif sign[0] == "(" and sign[-1] != ")":
            if sign == "(" or sign[-1] == ">":
                if depth or group:
                    return None
                group = part
            depth += 1
        elif sign[0] == "(":
            return None  # flags amid the regex
    if group is None:
        return head, "", body, ""
    before, inside, after = body[: group.start()], body[group.end() : end], body[end + 1 :]
    return None if has_bar or after[:1] in {*"*+?{"} else (head, before, inside, after)
