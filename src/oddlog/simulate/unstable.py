"""Logs that change while what they tell does not: reworded templates, lost and repeated lines.

Source: the unstable logs of Zhang et al., "Robust Log-Based Anomaly Detection on Unstable Log Data"
(LogRobust, ESEC/FSE 2019): words are inserted into, removed from and replaced in log statements, as
developers do, and events of sequences are duplicated, dropped and shuffled, as their collection
does. A label stays what it is: a word is replaced by one of the same meaning, removed if it is one
like "of" or "the", and inserted where it says nothing.

Deviations: there statements are changed by hand, here by lists of words, the same for every log. A
share of all templates is changed, each in all of its messages, as a new version of a program would;
there a share of the sequences is made to hold changed ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.errors import ConfigError
from oddlog.events import Sequences
from oddlog.simulate.wording import CONSTANT, REMOVED, draw_edits

DUPLICATED, DROPPED, SHUFFLED = DISTURBANCES = ("duplicated", "dropped", "shuffled")
LONGEST_RUN = 5  # neighbouring events that are shuffled


@dataclass(frozen=True, eq=False)
class Changed:
    """Sequences whose templates were reworded, and how.

    Attributes:
        sequences: The same windows over events with other messages, without ``template_id`` and
            ``raw``: what they say has to be matched again.
        edits: One row per changed word of a template: ``template_id``, ``edit`` (one of
            ``wording.EDITS``), ``word``, ``new``, and ``n`` events of the windows that it changes.
    """

    sequences: Sequences
    edits: pl.DataFrame


def change_templates(sequences: Sequences, share: float, seed: int, *, n_words: int = 1) -> Changed:
    """Reword a share of the templates: at each chosen constant word insert, remove or replace.

    A constant word is one that all messages of the template have, without a digit. Of one seed, a
    larger share changes the templates of a smaller one, in the same way, and more.

    Args:
        sequences: With messages and template ids, negative ones included.
        share: Of the templates that have a constant word, 0 to 1; the number is rounded.
        seed: Draws templates, words and edits.
        n_words: Words changed in each, or as many as it has.

    Raises:
        ConfigError: A share out of range.
    """
    _check(share)
    words = _constant_words(sequences)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(words))
    drawn = [(words[int(i)][0], draw_edits(words[int(i)][1], n_words, rng)) for i in order]
    changed = drawn[: round(share * len(words))]
    chosen = [(*edit, template_id) for template_id, edits in changed for edit in edits]
    events = sequences.events
    edits = pl.DataFrame(
        chosen,
        schema=dict.fromkeys(("edit", "word", "new"), pl.String) | {"template_id": pl.Int32},
        orient="row",
    ).select("template_id", "edit", "word", "new")
    reworded = _reword(events, edits).alias("message")
    kept = events.drop("template_id", "raw", strict=False).with_columns(reworded)
    ids = pl.DataFrame({"template_id": sequences.template_ids()})
    n = ids.group_by("template_id").agg(n=pl.len())
    return Changed(
        replace(sequences, events=kept),
        edits.join(n, on="template_id", how="left", maintain_order="left"),
    )


def _constant_words(sequences: Sequences) -> list[tuple[int, list[str]]]:
    """Return the constant words of every template that has any, templates and words in order."""
    table = sequences.events.select("template_id", "message").drop_nulls().unique()
    words = (
        table.with_columns(n=pl.len().over("template_id"))
        .with_columns(word=pl.col("message").str.split(" ").list.unique())
        .explode("word")
        .group_by("template_id", "word")
        .agg(is_common=pl.len() == pl.col("n").first())
        .filter(pl.col("is_common"), pl.col("word").str.contains(CONSTANT))
        .sort("template_id", "word")
        .group_by("template_id", maintain_order=True)
        .agg("word")
    )
    return list(words.iter_rows())


def _reword(events: pl.DataFrame, edits: pl.DataFrame) -> pl.Series:
    """Return the messages, each with its template's edit applied to the first such word."""
    messages, ids = events["message"], events["template_id"]
    # Few templates are changed, so one turn each; blanks around a message make all words alike.
    for template_id, edit, word, new in edits.iter_rows():
        inner = f" {new} " if edit != REMOVED else " "
        padded = pl.lit(" ") + messages + pl.lit(" ")
        changed = padded.str.replace(f" {word} ", inner, literal=True)
        bare = changed.str.slice(1, changed.str.len_chars() - 2)
        is_own = ids == template_id
        messages = pl.select(pl.when(is_own).then(bare).otherwise(messages)).to_series()
    return messages


def disturb_events(sequences: Sequences, share: float, seed: int) -> Sequences:
    """Duplicate an event, drop one or shuffle neighbouring ones in a share of the windows.

    Each disturbed window has one of the three, at a random place: an event comes twice, is missing,
    or up to ``LONGEST_RUN`` neighbours come in a random order (which may be their own). A window of
    one event can only have it twice. Whether a window counts as begun and ended stays as it was. Of
    one seed, a larger share disturbs the windows of a smaller one, in the same way, and more.

    Args:
        sequences: n windows.
        share: Of the windows, 0 to 1; the number is rounded.
        seed: Draws windows, kinds and places.

    Raises:
        ConfigError: A share out of range.
    """
    _check(share)
    n, m, lengths = len(sequences), len(sequences.rows), sequences.lengths
    rng = np.random.default_rng(seed)
    is_chosen = np.zeros(n, dtype=bool)
    is_chosen[rng.permutation(n)[: round(share * n)]] = True
    kind = np.where(lengths > 1, rng.integers(len(DISTURBANCES), size=n), 0)
    place = sequences.offsets[:-1] + (rng.random(n) * lengths).astype(np.int64)
    places, kinds = place[is_chosen], kind[is_chosen]
    times = np.ones(m, dtype=np.int64)
    times[places[kinds == 0]] = 2
    times[places[kinds == 1]] = 0
    order = _shuffled(sequences, is_chosen & (kind == 2), rng)
    new_lengths = lengths + (is_chosen & (kind == 0)) - (is_chosen & (kind == 1))
    return replace(
        sequences,
        rows=np.repeat(sequences.rows[order], times),
        offsets=np.concatenate([[0], np.cumsum(new_lengths)]).astype(np.int64),
    )


def _shuffled(
    sequences: Sequences, which: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return (m,) an order of entries in which a run of neighbours of some windows is shuffled."""
    lengths, first = sequences.lengths, sequences.offsets[:-1]
    size = np.minimum(rng.integers(2, LONGEST_RUN + 1, size=len(lengths)), lengths)
    begin = first + (rng.random(len(lengths)) * (lengths - size + 1)).astype(np.int64)
    entries = np.arange(len(sequences.rows))
    owner = sequences.owners
    within = which[owner] & (entries >= begin[owner]) & (entries < (begin + size)[owner])
    # Inside a run the order is that of random numbers between its first entry and its last.
    drawn = begin[owner] + rng.random(len(entries)) * size[owner]
    return np.argsort(np.where(within, drawn, entries), kind="stable")


def _check(share: float) -> None:
    if not 0 <= share <= 1:
        raise ConfigError(f"unstable: share is {share}; it has to be 0 to 1")
