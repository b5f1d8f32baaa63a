r"""Messages to the texts that BERT reads: what varies is replaced by one token, without a parser.

The rules are those of the paper's section on preprocessing and of its released code as it was
described: one alternation, of which the leftmost match counts and, at one place, the first rule.
Patterns are those of Rust's linear-time engine, so that a hostile line costs no more than another.
"""

from __future__ import annotations

import polars as pl

VARIABLE = "<*>"
_H = "[0-9a-fA-F]"
_NUMBER_WORDS = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
    "sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|"
    "hundred|thousand|million|billion"
)
_DAYS = (
    "Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?"
)
_MONTHS = (
    "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:tember)?|"
    "Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?"
)
_SEGMENT = r"[\w.:$+@~#%=&-]+"

RULES: tuple[str, ...] = (
    r"\b(?:[Tt]rue|[Ff]alse)\b",
    rf"\b(?:{_NUMBER_WORDS})\b",
    rf"\b(?:{_DAYS})\b",
    rf"\b(?:{_MONTHS}) +[0-9]{{1,2}}\b",
    r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?::[0-9]+)?\b",  # IPv4, with a port
    rf"\b{_H}{{2}}(?::{_H}{{2}}){{11}}\b",
    rf"\b{_H}{{2}}(?::{_H}{{2}}){{5}}\b",  # MAC
    # Paths. ``\B`` says that no letter stands before the slash: "I/O" and "read/write" are words.
    rf"\B(?:[/\\]+{_SEGMENT})+[/\\]*",
    rf"\b[A-Za-z]:(?:[/\\]+{_SEGMENT})+[/\\]*",
    rf"\b[\w.-]+(?:[/\\]+{_SEGMENT}){{2,}}[/\\]*",
    rf"\b{_H}{{8}}\b",
    rf"\b{_H}{{10}}\b",
    r"[\w.+-]+@[\w.-]+",  # user@host
    r"[a-zA-Z.:_-]*[0-9][\w.:-]*",  # whatever holds a digit
)
_PATTERN = "|".join(RULES)


def preprocess(messages: pl.Series) -> pl.Series:
    """Return messages with what varies replaced by ``<*>``; runs of dots become two and a blank.

    Args:
        messages: (n,) String; null stays null.

    Example:
        >>> preprocess(pl.Series(["Receiving block blk_-16 src: /10.0.0.9:542 dest: /d/e.f"]))[0]
        'Receiving block <*> src: <*> dest: <*>'
    """
    shortened = messages.str.replace_all(r"\.{3,}", ".. ")
    return shortened.str.replace_all(_PATTERN, VARIABLE).str.strip_chars()
