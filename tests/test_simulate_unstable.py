"""What an unstable log changes, and what it leaves alone."""

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.drain import DrainConfig, Novelties, Templates
from oddlog.errors import ConfigError
from oddlog.events import Sequences
from oddlog.simulate.unstable import change_templates, disturb_events
from oddlog.simulate.wording import SPARE, SYNONYMS

TEXTS = (
    "Received block {} of size 7",
    "deleting the file {}",
    "checksum {} verified",
    "{}",
)
windows = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=12)
shares = st.floats(0, 1)


def sessions(ids):
    """Build sessions whose messages hold a number of their own."""
    found = Sequences.from_ids(ids, [""] * len(ids))
    flat = [template for session in ids for template in session]
    texts = pl.Series([TEXTS[t].format(i) for i, t in enumerate(flat)])
    return replace(found, events=found.events.with_columns(message=texts))


EVERY = sessions([[0, 1, 2, 3]] * 3)


def contents(sequences):
    ids = sequences.template_ids().tolist()
    return [
        ids[a:b] for a, b in zip(sequences.offsets, sequences.offsets[1:].tolist(), strict=False)
    ]


def words_of(text):
    return Counter(text.split())


@cache
def all_edits():
    """Return (edit, word, new, before, after) of every edit of some seeds."""
    found = []
    for seed in range(16):
        changed = change_templates(EVERY, 1.0, seed)
        after = changed.sequences.events["message"]
        for template, edit, word, new, _ in changed.edits.iter_rows():
            place = int(np.flatnonzero(EVERY.template_ids() == template)[0])
            found.append((edit, word, new, EVERY.events["message"][place], after[place]))
    return found


def edits_of(edit):
    found = [made for kind, *made in all_edits() if kind == edit]
    assert found
    return found


def test_a_replaced_word_gives_way_to_one_of_the_same_meaning():
    """Hand-computed where the word is the first of the line, and written as that was."""
    made = edits_of("replaced")
    assert ["Received", "Got", "Received block 0 of size 7", "Got block 0 of size 7"] in made
    for word, new, before, after in made:
        assert SYNONYMS[word.lower()] == new.lower()
        assert words_of(after) == words_of(before) - Counter([word]) + Counter([new])


def test_a_removed_word_is_one_that_tells_nothing():
    made = edits_of("removed")
    assert ["the", "", "deleting the file 1", "deleting file 1"] in made
    for word, _, before, after in made:
        assert word in SPARE
        assert words_of(after) == words_of(before) - Counter([word])


def test_an_inserted_word_comes_before_one_that_is_there():
    for word, new, before, after in edits_of("inserted"):
        assert new.split()[1] == word
        assert after == before.replace(word, new, 1)


def test_all_messages_of_a_template_change_in_the_same_way():
    changed = change_templates(EVERY, 1.0, 0)
    for template, edit, word, new, n in changed.edits.iter_rows():
        own = EVERY.events["template_id"] == template
        before, after = (
            events["message"].filter(own) for events in (EVERY.events, changed.sequences.events)
        )
        expected = [
            " ".join(
                new if w == word else w for w in text.split() if edit != "removed" or w != word
            )
            for text in before
        ]
        assert (after.to_list(), n) == (expected, 3)


def test_what_varies_is_never_changed():
    for seed in range(4):
        after = change_templates(EVERY, 1.0, seed).sequences.events["message"]
        numbers = after.str.extract_all("[0-9]+").list.join(" ").to_list()
        assert numbers == EVERY.events["message"].str.extract_all("[0-9]+").list.join(" ").to_list()


def test_a_template_without_a_constant_word_stays_as_it_is():
    assert 3 not in change_templates(EVERY, 1.0, 0).edits["template_id"].to_list()


def test_a_share_of_the_templates_is_changed_and_a_larger_one_adds_to_it():
    edits = [change_templates(EVERY, share, 5).edits for share in (0.0, 0.34, 0.67, 1.0)]
    assert [len(table) for table in edits] == [0, 1, 2, 3]
    assert edits[3].head(2).equals(edits[2])


def test_a_share_of_nothing_changes_no_message():
    found = change_templates(EVERY, 0.0, 0).sequences.events["message"]
    assert found.to_list() == EVERY.events["message"].to_list()


def test_a_changed_template_is_unknown_to_frozen_ones_and_the_others_are_not():
    config = DrainConfig()
    templates = Templates(config)
    ids = templates.learn(EVERY.events["message"])
    templates.freeze()
    known = replace(EVERY, events=EVERY.events.with_columns(ids.alias("template_id")))
    changed = change_templates(known, 0.34, 0)
    again = templates.match(changed.sequences.events["message"], Novelties(config)).to_numpy()
    is_changed = np.isin(ids.to_numpy(), changed.edits["template_id"].to_numpy())
    assert ((again < 0) == is_changed).all()
    assert is_changed.any()


def test_templates_have_to_be_matched_again():
    changed = change_templates(EVERY, 0.5, 0).sequences
    assert not {"template_id", "raw"} & set(changed.events.columns)


def test_several_words_of_a_template_can_change_and_each_does_once():
    for seed in range(4):
        changed = change_templates(EVERY, 1.0, seed, n_words=2)
        words = changed.edits.group_by("template_id").agg("word")["word"].to_list()
        assert [len(set(own)) for own in words] == [2, 2, 2]
    many = change_templates(EVERY, 1.0, 0, n_words=9).edits.group_by("template_id").len()
    assert sorted(many["len"]) == [2, 3, 4]  # as many as each has constant words


def test_labels_keys_and_ends_stay():
    changed = change_templates(EVERY, 1.0, 0).sequences
    disturbed = disturb_events(EVERY, 1.0, 0)
    for found in (changed, disturbed):
        assert found.labels.to_list() == EVERY.labels.to_list()
        assert found.keys.to_list() == EVERY.keys.to_list()
        assert found.ends.tolist() == EVERY.ends.tolist()


def kind_of(before, after):
    """Tell what was done to a window of distinct events."""
    if len(after) == len(before):
        return "shuffled" if sorted(after) == sorted(before) else "?"
    shorter, longer = sorted((before, after), key=len)
    at = [i for i in range(len(longer)) if longer[:i] + longer[i + 1 :] == shorter]
    if not at:
        return "?"
    if len(after) < len(before):
        return "dropped"
    return "duplicated" if longer[at[0]] == longer[at[0] + 1] else "?"


def test_each_disturbed_window_has_one_thing_done_to_it():
    sequences = Sequences.from_ids([list(range(i, i + 8)) for i in range(300)])
    after = contents(disturb_events(sequences, 1.0, 0))
    kinds = Counter(map(kind_of, contents(sequences), after))
    assert set(kinds) == {"shuffled", "dropped", "duplicated"}
    assert min(kinds.values()) > 60


def test_no_more_than_five_neighbours_are_shuffled():
    sequences = Sequences.from_ids([list(range(12))] * 300)
    moved = [
        np.flatnonzero(np.array(after) != np.arange(12))
        for after in contents(disturb_events(sequences, 1.0, 1))
        if len(after) == 12
    ]
    widths = [int(places[-1] - places[0]) + 1 for places in moved if len(places)]
    assert (min(widths), max(widths)) == (2, 5)


def test_a_share_of_the_windows_is_disturbed_and_a_larger_one_adds_to_it():
    sequences = Sequences.from_ids([list(range(9))] * 200)
    found = [contents(disturb_events(sequences, share, 3)) for share in (0.2, 0.6)]
    usual = list(range(9))
    few, many = ({i for i, ids in enumerate(f) if ids != usual} for f in found)
    assert len(few) in range(30, 41)  # of 40: a run may be shuffled into its own order
    assert few < many
    assert all(found[0][i] == found[1][i] for i in few)


@settings(max_examples=40)
@given(windows, shares, st.integers(0, 9))
def test_no_window_is_left_empty_and_the_events_are_its_own(ids, share, seed):
    found = disturb_events(Sequences.from_ids(ids), share, seed)
    after = contents(found)
    assert all(after)
    for old, new in zip(ids, after, strict=True):
        assert abs(len(new) - len(old)) <= 1
        assert set(new) <= set(old)


@settings(max_examples=10)
@given(windows, shares, st.integers(0, 9))
def test_the_same_seed_gives_the_same_log(ids, share, seed):
    sequences = sessions(ids)
    first, second = (change_templates(sequences, share, seed) for _ in range(2))
    assert first.sequences.events.equals(second.sequences.events)
    rows = [disturb_events(sequences, share, seed).rows.tolist() for _ in range(2)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("change", [change_templates, disturb_events])
@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(change, share):
    with pytest.raises(ConfigError, match="0 to 1"):
        change(EVERY, share, 0)
