"""Words of a log statement, changed as developers change them: what is said stays the same.

A word is replaced by one of the same meaning, removed if it is one like "of" or "the", or one that
says nothing is inserted before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

INSERTED, REMOVED, REPLACED = EDITS = ("inserted", "removed", "replaced")
CONSTANT = r"^[A-Za-z][A-Za-z.*_()-]*[:,.]?$"
FILLERS = ("now", "currently", "already", "also", "then")
SPARE = frozenset(
    {"a", "an", "and", "as", "at", "be", "been", "by", "for", "from", "has", "have", "in", "into"}
    | {"is", "it", "its", "of", "on", "that", "the", "there", "this", "to", "was", "will", "with"}
)
"""Words that may be removed: without them a line tells the same."""
_PAIRS = (
    "receiving getting, received got, receive get, sending transmitting, sent transmitted,"
    " transmitted sent, served delivered, serving delivering, deleting removing, deleted removed,"
    " delete remove, removing deleting, removed deleted, starting beginning, started begun,"
    " start begin, stopping halting, stopped halted, stop halt, terminating ending,"
    " terminated ended, closing shutting, closed shut, opening unlocking, opened unlocked,"
    " creating making, created made, updated refreshed, updating refreshing, added appended,"
    " adding appending, succeeded passed, success completion, successfully properly,"
    " completed finished, complete finished, finished completed, verification check,"
    " verified checked, failed unsuccessful, failure breakdown, error fault, errors faults,"
    " exception fault, trying attempting, try attempt, waiting pausing, reading fetching,"
    " read fetched, writing storing, written stored, changing altering, changed altered,"
    " unexpected unforeseen, request demand, redundant superfluous, empty blank, invalid illegal,"
    " missing absent, found located, cannot can't, connection link, connected linked,"
    " transfer move, replicate copy, allocate reserve, allocated reserved, user account,"
    " message notice, data content, size length, offset position, while during, from out-of"
)
_WORDS = _PAIRS.replace(",", "").split()
SYNONYMS: Mapping[str, str] = MappingProxyType(dict(zip(_WORDS[::2], _WORDS[1::2], strict=True)))
"""What a word may be replaced by, in small letters."""

Edit = tuple[str, str, str]
"""What is done, the word that it is done at, and what comes in its place."""


def constant_words(text: str) -> list[str]:
    """Return the distinct words of a text that are no variable, in their order."""
    return [*dict.fromkeys(word for word in text.split(" ") if re.match(CONSTANT, word))]


def draw_edits(words: Sequence[str], n_words: int, rng: np.random.Generator) -> list[Edit]:
    """Draw edits for so many words of a template, or as many as it has.

    The first words drawn are those that the edit is possible at: a word that has no synonym cannot
    be replaced, and so on; where an edit is possible at none, a word is inserted.
    """
    left, edits = list(words), []
    for _ in range(min(n_words, len(words))):
        edit = EDITS[int(rng.integers(len(EDITS)))]
        place, filler = rng.random(), FILLERS[int(rng.integers(len(FILLERS)))]
        possible = {
            REPLACED: [word for word in left if _bare(word) in SYNONYMS],
            REMOVED: [word for word in left if _bare(word) in SPARE],
        }.get(edit)
        edit, possible = (edit, possible) if possible else (INSERTED, left)
        word = possible[int(place * len(possible))]
        left.remove(word)
        edits.append((edit, word, _new(edit, word, filler)))
    return edits


def _new(edit: str, word: str, filler: str) -> str:
    """Return what comes in a word's place."""
    if edit == REPLACED:
        return _synonym(word)
    return "" if edit == REMOVED else f"{filler} {word}"


def _bare(word: str) -> str:
    return word.rstrip(":,.").lower()


def _synonym(word: str) -> str:
    """Return a word of the same meaning, written as the word is."""
    bare = word.rstrip(":,.")
    new = SYNONYMS[bare.lower()]
    new = new.upper() if bare.isupper() else new.capitalize() if bare[0].isupper() else new
    return new + word[len(bare) :]


def reword(text: str, edits: Sequence[Edit]) -> str:
    """Return a text with each edit made at the first such word."""
    padded = f" {text} "
    for edit, word, new in edits:
        padded = padded.replace(f" {word} ", " " if edit == REMOVED else f" {new} ", 1)
    return padded[1:-1]
