"""Learning on: tokens are appended, old windows are replayed, and what is stored is checked."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from known_loggpt import fit, sessions
from oddlog.artifact import load_arrays, save_arrays
from oddlog.detectors.loggpt import LogGPT
from oddlog.detectors.loggpt.adapt import grow
from oddlog.encode import UNKNOWN
from oddlog.errors import ArtifactError
from oddlog.events import Sequences
from oddlog.nn.replay import (
    COPIES,
    bare,
    from_arrays,
    no_windows,
    sample_windows,
    to_arrays,
)
from oddlog.run import Run

IDS = st.lists(st.lists(st.integers(-1, 2), min_size=1, max_size=4), max_size=12)
CYCLE = [[1, 2, 3, 4, 5] * 2, [1, 2, 3, 4, 5]]


def counted(windows):
    """Return each window, with its marks, and how often it occurs."""
    rows = np.split(windows.template_ids(), windows.offsets[1:-1]) if len(windows) else []
    marks = zip(windows.starts.tolist(), windows.ends.tolist(), strict=True)
    return Counter((tuple(r.tolist()), *m) for r, m in zip(rows, marks, strict=True))


@given(IDS, st.integers(0, 30))
def test_a_sample_is_of_the_windows_and_no_larger_than_asked(ids, most):
    windows = sessions(ids, ends=False)
    sample = sample_windows(windows, seed=1, most=most)
    assert counted(sample) <= counted(windows)
    assert len(sample.rows) <= most


def test_of_equal_windows_a_few_are_kept_and_all_of_the_rare():
    usual = sessions([[1, 2]] * 100)
    open_ended = replace(sessions([[1, 2]]), ends=np.array([False]))
    sample = sample_windows(Sequences.concat([usual, sessions([[3]]), open_ended]), seed=1)
    assert sorted(counted(sample).values()) == [1, 1, COPIES]


@given(IDS)
def test_stored_windows_are_read_as_they_were(ids):
    windows = sessions(ids, starts=False)
    assert counted(from_arrays(to_arrays(windows))) == counted(windows)


def test_no_windows_are_windows_too():
    assert len(sample_windows(no_windows(), seed=1)) == len(bare(no_windows())) == 0


def test_a_grown_network_has_the_old_tokens_as_before_and_takes_new_ones_for_unknown():
    detector = fit([[10, 20, 10, 30]], reads="order")
    network = detector._network
    grown = grow(network, detector.config, network.sizes.n_tokens + 2)
    old, new = (n.transformer.wte.weight for n in (network, grown))
    assert new[: len(old)].tolist() == old.tolist()
    assert new[len(old) :].tolist() == [old[UNKNOWN].tolist()] * 2


def test_what_was_learned_long_ago_is_not_forgotten():
    detector = fit(CYCLE, epochs=100, patience=100, learning_rate=0.03, dropout=0.0, reads="order")
    new = sessions([[6, 7, 8, 9]] * 20)
    later = sessions([CYCLE[1], [6, 7, 8, 9], [1, 2, 8, 4, 5]])
    scores = detector.adapt(new, new, Run(device="cpu")).score(later).sequence
    assert scores[2] > 2 > scores[:2].max()


def test_a_model_without_replayed_windows_can_still_be_read_and_learn_on(tmp_path):
    fit([[10, 20, 10, 30]], reads="order").save(tmp_path)
    (tmp_path / "replay.safetensors").unlink()
    loaded = LogGPT.load(tmp_path, "cpu")
    new = sessions([[10, 40, 30]])
    assert loaded.adapt(new, new, Run(device="cpu"))._vocabulary.n_keys == 4


@pytest.mark.parametrize("name", ["template_ids", "offsets", "starts"])
def test_damaged_replayed_windows_are_refused(tmp_path, name):
    fit([[10, 20, 10, 30]]).save(tmp_path)
    path = tmp_path / "replay.safetensors"
    arrays = load_arrays(path)
    save_arrays(path, arrays | {name: arrays[name][:0]})
    with pytest.raises(ArtifactError, match="damaged"):
        LogGPT.load(tmp_path, "cpu")
