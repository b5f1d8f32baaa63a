r"""Named masks: what varies from line to line is replaced by what kind of thing it was.

A mask turns ``blk_-160899`` into ``<BLOCK>`` and ``10.0.0.7:50010`` into ``<IP>``. The token says
the kind instead of being ``<*>``, for three reasons. Drain does not count ``<*>`` as an equal
token, so a message of mostly ``<*>`` is not even similar to itself and founds a new template every
time it is seen, while ``<NUM>`` equals ``<NUM>``. A person reads ``lost <IP> after <NUM>``, not
``lost <*> after <*>``. And a token of fixed text can never carry a part of the secret that it
hides. ``<*>`` is left to Drain: it marks a place where unlike tokens met.

Patterns are those of Rust's linear-time regex engine: no look-around, no back-references, no
input that takes exponential time. A group named ``keep`` stays in front of the token, which is
what a look-behind would have been for: ``(?P<keep>user=)\S+`` gives ``user=<NAME>``.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from types import MappingProxyType
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from oddlog.config import Config
from oddlog.errors import ConfigError
from oddlog.session_ids import SESSION_WORD, session_step, write_word
from oddlog.shapes import TWO, Shaped, distinct, is_blind, is_repetitive, renumber, shapes_of

_HOUR = r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_ZONE = r"(?:Z|[+-][0-9]{2}:?[0-9]{2}| [A-Z]{3,4})?"
_H = r"[0-9a-fA-F]"
_IP4 = r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?::[0-9]{1,5})?"

# What each named mask replaces. Digits are [0-9]: an Arabic-Indic digit is text here. ``\B`` before
# a sign that is no letter says "no letter before it" and costs nothing, where a kept group would
# double the time of a mask: "x=-5" has a number with a sign, "part-5" has not.
PATTERNS = MappingProxyType(
    {
        "secret": (
            r"(?P<keep>(?i:\b(?:password|passwd|pwd|secret|token|api[_-]?key)) ?[=:] ?|\bBearer )"
            r"[^\s,;&]+|\beyJ[\w-]+\.[\w-]+\.[\w-]*"
        ),
        "url": r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>\])]+",
        "email": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b",
        "time": (
            r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}\.[0-9]{2}\.[0-9]{2}(?:\.[0-9]+)?\b"
            rf"|\b[0-9]{{4}}[-/.][0-9]{{2}}[-/.][0-9]{{2}}(?:[T _-]{_HOUR}{_ZONE})?\b"
            rf"|\b(?:{_DAY},? )?(?:{_MONTH} +[0-9]{{1,2}}|[0-9]{{1,2}}[ /-]{_MONTH}[ /-][0-9]{{4}})"
            rf"[ :]{_HOUR}{_ZONE}(?: [0-9]{{4}})?\b"
            rf"|\b{_HOUR}\b"
        ),
        "uuid": rf"\b{_H}{{8}}-{_H}{{4}}-{_H}{{4}}-{_H}{{4}}-{_H}{{12}}\b",
        "mac": rf"\b{_H}{{2}}(?:(?::{_H}{{2}}){{5}}|(?:-{_H}{{2}}){{5}})\b",
        "ip": (
            rf"\b{_IP4}(?:,{_IP4})*\b"
            rf"|\b(?:{_H}{{1,4}}:){{7}}{_H}{{1,4}}\b"
            rf"|\b[23fF]{_H}{{3}}(?::{_H}{{1,4}})*::(?:{_H}{{1,4}}(?::{_H}{{1,4}})*\b)?"
        ),
        "host": r"\b[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+){2,}:[0-9]{1,5}\b",
        "path": (
            r"\B(?:/[\w.$@%+~=#&?<>*-]+){2,}/?"
            r"|\b[A-Za-z]:\\[^\s\"',;]+|\\\\[\w.-]+\\[^\s\"',;]+"
        ),
        "block": r"\bblk_-?[0-9]+(?:_[0-9]+)?\b",
        "id": r"\b[A-Za-z]\w*_-?[0-9]{3,}\w*",
        "number": (r"(?:\B[-+])?\b[0-9]+(?:[.,:][0-9]+)*(?:[KMGTP]i?B?|B|ns|us|ms|s)?\b"),
        "hex": rf"\b0[xX]{_H}+\b",
        # Written as a number: of eight bare hexadecimal digits, one value in forty has no letter,
        # and a field must not be <HEX> today and <NUM> tomorrow.
        "bare_hex": rf"\b{_H}{{8,}}\b",
        "bgl_node": r"\bR[0-9]{2}(?:-[A-Z]+[0-9]*(?::[A-Z][0-9]+)?)+\b",
        "bgl_register": r"\b(?:fpr|gpr|[fr])[0-9]{1,2}\b",
        "cluster_node": r"\b[a-z]{2}[0-9]{2,4}\b|#[0-9]+#",
    }
)
TOKENS = MappingProxyType(
    {
        "number": "<NUM>",
        "bare_hex": "<NUM>",
        "bgl_node": "<NODE>",
        "bgl_register": "<REGISTER>",
        "cluster_node": "<NODE>",
    }
)
"""The tokens that are not simply the mask's name in capitals."""

GUARDED = ("hex", "ip")
"""Masks that name single digits, only such as a shape keeps: before an ``x``, and beside ``::``."""

SIGNS = ("[0-9]", r"[-:=@/\\BJ]")
"""One of these stands in whatever a named mask finds, but for those of ``UNSIGNED``: ``B`` and
``J`` are of secrets. Two, as a class of up to ten characters is found five times as fast."""

UNSIGNED = ("bare_hex",)
"""Masks that may find letters alone."""

FEW_TEXTS = 1_000  # whose bytes stay in a core's cache

GENERIC = (
    *("secret", "url", "email", "time", "uuid", "mac", "ip", "host", "path"),
    *("id", "hex", "bare_hex", "number"),
)
SETS = MappingProxyType(
    {
        "generic": GENERIC,
        "hdfs": ("block", "ip", "path", "number"),
        "bgl": (
            "bgl_node",
            "time",
            "ip",
            "path",
            "bgl_register",
            "id",
            "hex",
            "bare_hex",
            "number",
        ),
        "thunderbird": (*GENERIC[:-4], "cluster_node", *GENERIC[-4:]),
        "syslog": GENERIC,
        "none": (),
    }
)
"""Masks by log layout, in the order in which they are applied: the more specific first, so that an
address is gone before the numbers that it is made of are looked for."""


AFTER_SESSION = ("id", "hex", "bare_hex", "number")
"""Masks that would see only some of a log's session ids: ``req_512`` is an id, ``req_5`` is none.
What names a session is looked for before them, and after those that hide it with more around it."""


class Masks(Config):
    """Which masks are applied, in order: the user's own first, then named ones.

    Attributes:
        names: Keys of ``PATTERNS``.
        session: Regex that names a line's session: what it finds is written ``<SESSION>``, or what
            its group finds. Set by ``session_by`` at fit time; see ``session_ids``.
        own: The user's masks: a name in small letters and a pattern. ``{"job": "job-[0-9]+"}``
            writes ``<JOB>``. They come first, as their author knows the log.

    Raises:
        ConfigError: An unknown name, or a pattern that cannot be used; says which.
    """

    names: tuple[str, ...] = GENERIC
    session: str | None = None
    own: dict[str, str] = Field(default_factory=dict)

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in PATTERNS:
                near = get_close_matches(name, PATTERNS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PATTERNS)}"
                raise ConfigError(f"masks.names: no mask named {name!r}; {hint}")
        return names

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for name, pattern in self.own.items():
            if not re.fullmatch(r"[a-z]+(?:_[a-z]+)*", name):
                raise ConfigError(
                    f"masks.own: mask name {name!r}: small letters and underscores only, "
                    "as a later mask must find no number in its token"
                )
            _check_pattern(f"masks.own.{name}", pattern)
        if self.session is not None:
            _check_pattern("masks.session", session_step(self.session))
        return self

    @property
    def are_blind(self) -> bool:
        """Whether no mask tells apart what ``shapes`` makes equal."""
        given = [*self.own.values(), *([self.session] if self.session else [])]
        return all(map(is_blind, given)) and all(
            name in GUARDED or is_blind(PATTERNS[name]) for name in self.names
        )

    @property
    def by_word(self) -> bool:
        """Whether a field names sessions, so that ``name_sessions`` changes messages."""
        return self.session == SESSION_WORD

    def steps(self) -> list[tuple[str, str]]:
        """Return (pattern, token) of every mask, in the order in which they are applied."""
        named = [(PATTERNS[name], token_of(name)) for name in self.names]
        if self.session is not None:
            later = [place for place, name in enumerate(self.names) if name in AFTER_SESSION]
            step = (session_step(self.session), token_of("session"))
            named.insert(min(later, default=len(named)), step)
        return [(pattern, token_of(name)) for name, pattern in self.own.items()] + named


def masks_for(layout: str) -> Masks:
    """Return the masks of a log layout; the generic ones for a layout without a set of its own."""
    return Masks(names=SETS.get(layout, GENERIC))


def token_of(name: str) -> str:
    """Return what a mask writes.

    Example:
        >>> token_of("ip"), token_of("number"), token_of("job")
        ('<IP>', '<NUM>', '<JOB>')
    """
    return TOKENS.get(name, f"<{name.upper()}>")


def replacement(pattern: str, token: str) -> str:
    """Return the replacement text for ``str.replace_all``: the token between what is kept."""
    before = "${keep}" if "(?P<keep>" in pattern else ""
    return before + token + ("${after}" if "(?P<after>" in pattern else "")


def mask(messages: pl.Series, masks: Masks) -> pl.Series:
    """Replace what varies by tokens that name its kind.

    Args:
        messages: (n,) String; null counts as empty.
        masks: What to replace.

    Returns:
        (n,) String in the same order, under the same name, without nulls.

    Example:
        >>> mask(pl.Series(["lost 10.0.0.7:80 after 31.5 ms, user=bob"]), Masks()).item()
        'lost <IP> after <NUM> ms, user=bob'
    """
    codes, masked = mask_distinct(messages, masks)
    return masked.gather(codes)


def name_sessions(messages: pl.Series, sessions: pl.Series, masks: Masks) -> pl.Series:
    """Write ``SESSION_WORD`` for the ids of each message's own sessions, where fields name them.

    An id that the masks hide by themselves, such as a number or a UUID, is left to them.

    Args:
        messages: (n,) String.
        sessions: (n,) List(String): the ids of each.
        masks: What hides ids; nothing is written where their ``session`` is a regex of its own.
    """
    if not masks.by_word:
        return messages
    table = pl.DataFrame({"text": messages, "id": sessions}).with_row_index("row")
    named = table.explode("id", empty_as_null=False, keep_nulls=False)
    named = named.filter(pl.col("text").str.contains(pl.col("id"), literal=True))
    ids = named["id"].unique()
    shown = ids.filter(~mask(ids, masks).str.contains("^<[A-Z_]+>$"))
    named = named.filter(pl.col("id").is_in(shown.implode()))
    texts = messages.clone()
    while named.height:  # once for each id of the message that has most
        now = named.unique("row", keep="first", maintain_order=True)
        rows = now["row"].to_numpy()
        texts = texts.scatter(rows, write_word(texts.gather(rows), now["id"]))
        named = named.join(now, on=["row", "id"], how="anti", maintain_order="left")
    return texts


def mask_distinct(
    messages: pl.Series, masks: Masks, shaped: Shaped | None = None
) -> tuple[NDArray[np.int64], pl.Series]:
    """Mask messages, and look at as few of them as possible.

    Where messages repeat themselves only the distinct ones are looked at, and of those that differ
    in digits alone, which no mask tells apart, only one (``shapes``).

    Args:
        messages: (n,) String; null counts as empty.
        masks: What to replace.
        shaped: Their shapes, where they are known.

    Returns:
        (n,) int64 codes and (k,) String under the messages' name: message i is masked as
        ``masked[codes[i]]``. Of the k some may be equal.
    """
    filled = messages.fill_null("")
    if shaped is not None and masks.are_blind:
        codes, masked, leaks = _mask_shapes(filled, shaped, masks, names=False)
        if not len(leaks):
            return codes, masked
        others, more = mask_distinct(filled.gather(leaks), masks)
        codes[leaks] = len(masked) + others
        return codes, pl.concat([masked, more])
    if not is_repetitive(filled):
        return _mask_messages(filled, masks)
    repeats = distinct(filled)
    codes, masked = _mask_messages(filled.gather(repeats.first), masks)
    return codes[repeats.codes], masked


def _mask_messages(messages: pl.Series, masks: Masks) -> tuple[NDArray[np.int64], pl.Series]:
    """Mask messages by their shapes, and by themselves where shapes gain nothing.

    Those without a sign of anything that masks look for are plain text, and soon done.
    """
    is_plain = _is_plain(messages, masks)
    rows = np.flatnonzero(~is_plain)
    if len(rows) == len(messages):
        return _mask_signed(messages, masks)
    letters = Masks(names=tuple(name for name in masks.names if name in UNSIGNED))
    plain = messages.filter(pl.Series(is_plain))
    plain = _mask_each(plain, letters) if _may_be_hex(plain) else plain
    codes = np.cumsum(is_plain) - 1
    others, masked = _mask_signed(messages.gather(rows), masks)
    codes[rows] = len(plain) + others
    return codes, pl.concat([plain, masked])


def _is_plain(messages: pl.Series, masks: Masks) -> NDArray[np.bool_]:
    """Return (n,) whether a message has no sign of anything that masks look for."""
    if masks.own or masks.session is not None:
        return np.zeros(len(messages), dtype=bool)
    text = pl.col(messages.name).str
    has_sign = pl.any_horizontal(text.contains(sign) for sign in SIGNS)
    found = messages.to_frame().lazy().select(has_sign).collect(engine="streaming")
    return ~found.to_series().to_numpy()


def _may_be_hex(plain: pl.Series) -> bool:
    """Return whether of (n,) texts without digits one has eight letters that masks may find.

    A regex takes twice as long to find that there are none.
    """
    for begin in range(0, len(plain), FEW_TEXTS):
        together = plain[begin : begin + FEW_TEXTS].str.join("\n").item().encode()
        text = np.frombuffer(together, dtype=np.uint8)
        run = ((text | np.uint8(ord(" "))) - np.uint8(ord("a"))) < 6  # of hexadecimal letters
        for n_more in (1, 2, 4):
            run = run[n_more:] & run[:-n_more]
        if run.any():
            return True
    return False


def _mask_signed(messages: pl.Series, masks: Masks) -> tuple[NDArray[np.int64], pl.Series]:
    shapes = shapes_of(messages) if masks.are_blind else messages
    if not is_repetitive(shapes):
        return np.arange(len(messages)), _mask_each(messages, masks)
    found = distinct(shapes)
    shaped = Shaped(found.codes, shapes.gather(found.first))
    codes, masked, leaks = _mask_shapes(messages, shaped, masks, names=True)
    codes[leaks] = len(masked) + np.arange(len(leaks))
    return codes, pl.concat([masked, _mask_each(messages.gather(leaks), masks)])


def _mask_shapes(
    messages: pl.Series, shaped: Shaped, masks: Masks, *, names: bool
) -> tuple[NDArray[np.int64], pl.Series, NDArray[np.int64]]:
    """Mask one message of each shape; ``names`` says what the shapes have kept.

    Returns:
        Codes and masked messages as of ``mask_distinct``, and the rows of the messages for which
        these do not hold: the masks leave a digit of theirs that the shape has not.
    """
    codes, first = renumber(shaped.codes)
    masked = _mask_each(shaped.shapes.gather(shaped.codes[first]).rename(messages.name), masks)
    rows = np.flatnonzero(masked.str.contains("[0-9]").to_numpy())
    # A digit that stands for others shows: in a shape made with another one it is another.
    other = shapes_of(messages.gather(first[rows]), TWO, names=names)
    is_leak = np.zeros(len(masked), dtype=bool)
    is_leak[rows] = (_mask_each(other, masks) != masked.gather(rows)).to_numpy()
    return codes, masked, np.flatnonzero(is_leak[codes])


def _mask_each(messages: pl.Series, masks: Masks) -> pl.Series:
    """Mask a column one mask after the other; by the streaming engine, which uses every core."""
    masked = pl.col(messages.name)
    for pattern, token in masks.steps():
        masked = masked.str.replace_all(pattern, replacement(pattern, token))
    return messages.to_frame().lazy().select(masked).collect(engine="streaming").to_series()


def _check_pattern(where: str, pattern: str) -> None:
    try:
        matches_nothing = pl.Series([""]).str.contains(pattern).item()
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{where}: {pattern!r} is not a usable regular expression: {reason}; "
            "look-around and back-references are not supported, a group (?P<keep>...) stays"
        ) from None
    if matches_nothing:
        raise ConfigError(f"{where}: {pattern!r} matches the empty text; it would mask everything")
