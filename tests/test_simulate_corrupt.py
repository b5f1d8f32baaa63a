from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddlog.events import Sequences
from oddlog.simulate.corrupt import CORRUPTIONS, corrupt

NORMAL = [list(range(i, i + 8)) for i in range(20)]
windows = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=7), min_size=1, max_size=8)


def sessions(ids, *, ends=True):
    found = Sequences.from_ids(ids)
    return replace(found, ends=np.full(len(found), ends))


def contents(sequences):
    ids = sequences.template_ids()
    return [
        ids[a:b].tolist() for a, b in zip(sequences.offsets, sequences.offsets[1:], strict=False)
    ]


def pairs(normals, kind, n_draws=40, seed=0):
    """Return what each corruption of a kind was made of, and what came out."""
    found = corrupt(normals, seed, n_draws)
    found = found.take((found.labels == kind).to_numpy())
    before = dict(zip(normals.keys, contents(normals), strict=True))
    return [(before[key], after) for key, after in zip(found.keys, contents(found), strict=True)]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_kind_is_made(kind):
    assert len(pairs(sessions(NORMAL), kind)) > 50


def test_a_truncated_window_is_a_beginning_of_the_whole():
    for before, after in pairs(sessions(NORMAL), "truncated"):
        assert after == before[: len(after)]
        assert 1 <= len(after) < len(before)


def test_a_removed_event_is_missing():
    made = pairs(sessions(NORMAL), "removed")
    for before, after in made:
        assert after in [before[:i] + before[i + 1 :] for i in range(len(before))]
    assert {min(set(before) - set(after)) - before[0] for before, after in made} == {*range(8)}


def test_an_inserted_event_is_one_too_many():
    for before, after in pairs(sessions(NORMAL), "inserted"):
        assert before in [after[:i] + after[i + 1 :] for i in range(len(after))]


def test_a_replaced_event_is_another_one():
    for before, after in pairs(sessions(NORMAL), "replaced"):
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


def test_a_doubled_event_follows_itself():
    for before, after in pairs(sessions(NORMAL), "doubled"):
        assert after in [before[:i] + before[i - 1 :] for i in range(1, len(before) + 1)]


def test_neighbours_are_swapped():
    for before, after in pairs(sessions(NORMAL), "swapped"):
        places = [i for i in range(len(before)) if before[i] != after[i]]
        assert len(places) == 2
        assert places[1] == places[0] + 1
        assert sorted(after) == sorted(before)


def test_a_window_without_its_end_is_neither_truncated_nor_robbed_of_its_last_event():
    live = sessions(NORMAL, ends=False)
    assert pairs(live, "truncated") == []
    assert {after[-1] - before[-1] for before, after in pairs(live, "removed")} == {0}


@given(windows, st.integers(0, 99), st.booleans())
def test_nothing_that_is_normal_comes_out(ids, seed, ends):
    normals = sessions(ids, ends=ends)
    found = corrupt(normals, seed, 3)
    assert [item for item in contents(found) if item in ids] == []
    assert set(found.labels) <= set(CORRUPTIONS)


def test_the_same_seed_makes_the_same_windows():
    normals = sessions(NORMAL)
    assert contents(corrupt(normals, 3)) == contents(corrupt(normals, 3))
    assert contents(corrupt(normals, 3)) != contents(corrupt(normals, 4))


def test_two_draws_differ():
    found = corrupt(sessions([NORMAL[0]]), 0, 30)
    assert len({tuple(item) for item in contents(found)}) > 10


def test_of_nothing_comes_nothing():
    assert len(corrupt(sessions([]), 0)) == 0


def test_what_a_corruption_ends_with_stays():
    normals = replace(sessions(NORMAL), keys=pl.Series("key", [f"s{i}" for i in range(20)]))
    found = corrupt(normals, 0)
    assert found.ends.all()
    assert set(found.keys) <= set(normals.keys)
