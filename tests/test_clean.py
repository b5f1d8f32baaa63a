"""Leaving out what may be anomalies: what is rare, what goes, what is promised, what is refused."""

import json
from dataclasses import replace
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oddlog
from oddlog.detectors import DETECTORS
from oddlog.detectors.counts import Counts
from oddlog.drain import Templates
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.pipeline import fit_sequences, make_config
from oddlog.pipeline.clean import COLUMNS, FILE, MARGIN, clean, highest, rarity, read_table

NORMAL, FAULT = [1, 2, 3, 4], [1, 9, 4]
shares = st.floats(0.0, 0.2)
id_lists = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=30)


class FromLabels(Counts):
    name: ClassVar[str] = "from_labels"
    learns_from: ClassVar = "labelled"


def part_of(n_normal, n_faults):
    """Return sequences of two kinds of normal session, and the same fault over and over."""
    kinds = [NORMAL, [1, 3, 2, 4]]
    ids = [kinds[i % 2] for i in range(n_normal)] + [FAULT] * n_faults
    labels = [""] * n_normal + ["fault"] * n_faults
    return Sequences.from_ids(ids, labels=labels)


def parts_of(*sizes):
    """Return training, validation and calibration of these numbers of normals and faults."""
    parts = []
    for name, (n_normal, n_faults) in zip("tvc", sizes, strict=True):
        part = part_of(n_normal, n_faults)
        keys = pl.Series("key", [f"{name}{i}" for i in range(len(part))])
        parts.append(replace(part, keys=keys, labels=part.without_labels().labels))
    return parts


def fitted(parts, **changes):
    config = make_config({"detector": "counts", "false_alarm_rate": 0.05} | changes, "test")
    return fit_sequences(parts, templates=Templates.from_texts({}), config=config)


def test_rarity_is_the_surprise_of_the_rarest_pair_and_of_the_set():
    found = rarity(Sequences.from_ids([[1, 2], [1, 2], [1, 2], [1, 3]]))
    assert found == pytest.approx(2 * np.log([4 / 3, 4 / 3, 4 / 3, 4]))


def test_a_missing_event_is_rare_though_its_neighbours_are_common():
    found = rarity(Sequences.from_ids([[1, 1, 2, 2]] * 50 + [[1, 2, 2]] * 50 + [[2, 2]]))
    assert found.argmax() == 100


def test_an_order_that_no_other_has_is_rare():
    assert rarity(Sequences.from_ids([*[NORMAL] * 20, [1, 3, 2, 4]])).argmax() == 20


def test_what_may_still_come_is_not_missing():
    sequences = Sequences.from_ids([*[NORMAL] * 20, NORMAL[:2]])
    ends = np.array([True] * 20 + [False])
    assert rarity(sequences)[-1] > 2
    assert rarity(replace(sequences, ends=ends))[-1] == pytest.approx(0.0, abs=1e-9)


def test_a_single_event_from_the_midst_of_a_session_is_not_rare():
    sequences = Sequences.from_ids([[1, 2], [3]])
    within = replace(sequences, starts=np.array([True, False]), ends=np.array([True, False]))
    assert rarity(within)[1] == 0.0


@given(id_lists, st.randoms())
def test_the_order_of_the_windows_makes_no_difference(ids, random):
    order = random.sample(range(len(ids)), len(ids))
    shuffled = rarity(Sequences.from_ids([ids[i] for i in order]))
    assert shuffled.tolist() == rarity(Sequences.from_ids(ids))[order].tolist()


@given(st.integers(40, 200), st.data())
def test_no_number_of_copies_hides_a_fault_that_is_rarer_than_normal_sessions(n, data):
    n_faults = data.draw(st.integers(1, n // 5))
    part = part_of(n, n_faults)
    found = rarity(part)
    assert found[part.anomalous].min() > found[~part.anomalous].max()


@given(st.lists(st.integers(0, 6).map(float) | st.floats(0, 6), min_size=1), st.floats(0, 1))
def test_the_highest_are_at_most_the_share_and_above_all_others(scores, share):
    scores = np.array(scores)
    odd = highest(scores, share)
    assert odd.sum() <= share * len(scores) + 1e-6
    assert scores[odd].min(initial=np.inf) > scores[~odd].max(initial=-np.inf)


def test_as_many_as_the_share_are_left_out_where_no_two_tie():
    assert highest(np.arange(100.0), 0.29).sum() == 29


def test_all_of_a_share_of_one_are_the_highest():
    assert highest(np.arange(3.0), 1.0).all()


def test_no_share_leaves_every_part_as_it_is():
    parts = parts_of((30, 2), (10, 1), (20, 1))
    cleaned = clean(parts, 0.0, 0.05)
    assert all(own is given for own, given in zip(cleaned.parts, parts, strict=True))
    assert cleaned.suspects(np.arange(21.0)) is None


def test_no_share_leaves_no_trace_in_the_model_folder(tmp_path):
    pipeline = fitted(parts_of((30, 2), (10, 1), (20, 1)))
    pipeline.save(tmp_path / "model")
    assert not (tmp_path / "model" / FILE).exists()
    assert "trimmed" not in pipeline.manifest
    assert set(json.loads((tmp_path / "model" / "calibration.json").read_text())) == {
        "false_alarm_rate",
        "scores",
    }


def test_a_detector_does_not_learn_what_was_left_out():
    faults = part_of(0, 1)
    poisoned = parts_of((190, 10), (19, 1), (190, 10))
    before, after = fitted(poisoned), fitted(poisoned, assume_anomalies=0.05)
    scores = [one.detector.score(faults).sequence[0] for one in (before, after)]
    assert (scores[0], scores[1] > 0) == (0.0, True)


def test_a_fault_that_calibration_holds_is_flagged_once_it_is_left_out():
    poisoned = parts_of((200, 0), (20, 0), (190, 10))
    before, after = fitted(poisoned), fitted(poisoned, assume_anomalies=0.05)
    fault = np.array([after.detector.score(part_of(0, 1)).sequence[0]])
    assert (before.calibration.flags(fault)[0], after.calibration.flags(fault)[0]) == (False, True)


def test_the_stored_rules_are_calibrated_without_their_suspects_too():
    pipeline = fitted(parts_of((190, 10), (19, 1), (190, 10)), assume_anomalies=0.05)
    assert pipeline.baselines["key_set"].calibration.n_trimmed == 10


def test_a_common_sequence_is_no_suspect_however_high_it_scores():
    cleaned = clean(parts_of((200, 0), (20, 0), (200, 10)), 0.05, 0.05)
    score = np.zeros(210)
    score[:5] = 9.0
    suspects = cleaned.suspects(score)
    assert suspects is not None
    assert not suspects.any()


def test_what_was_left_out_is_listed_by_part_with_its_place():
    pipeline = fitted(parts_of((190, 10), (19, 1), (190, 10)), assume_anomalies=0.05)
    table = pipeline.trimmed
    assert table.schema == COLUMNS
    assert table.group_by("part", "by", maintain_order=True).len().rows() == [
        ("training", "rarity", 10),
        ("validation", "rarity", 1),
        ("calibration", "counts", 10),
    ]
    first = table.row(0, named=True)
    assert (first["key"], first["first_line"], first["last_line"]) == ("t190", 761, 763)


def test_known_anomalies_are_not_left_out_a_second_time():
    labelled = part_of(190, 10)
    parts = [labelled, *parts_of((19, 0), (19, 0), (190, 0))[1:]]
    pipeline = fitted(parts, assume_anomalies=0.05)
    assert pipeline.manifest["trimmed"]["training"] == {"of": 190, "left_out": 0}


def test_a_loaded_pipeline_still_knows_what_was_left_out(tmp_path):
    pipeline = fitted(parts_of((190, 10), (19, 1), (190, 10)), assume_anomalies=0.05)
    pipeline.save(tmp_path / "model")
    loaded = oddlog.load(tmp_path / "model")
    assert loaded.trimmed.equals(pipeline.trimmed)
    assert loaded.calibration.n_trimmed == 10


def test_a_share_that_finds_nothing_is_told_and_leaves_an_empty_list(tmp_path):
    pipeline = fitted(parts_of((200, 0), (20, 0), (200, 0)), assume_anomalies=0.001)
    pipeline.save(tmp_path / "model")
    assert oddlog.load(tmp_path / "model").trimmed.equals(pl.DataFrame(schema=COLUMNS))
    assert "0 of 200 training" in (pipeline.trimmed_note(tmp_path) or "")


def test_the_note_says_how_many_and_where_to_look(tmp_path):
    pipeline = fitted(parts_of((190, 10), (19, 1), (190, 10)), assume_anomalies=0.05)
    assert pipeline.trimmed_note(tmp_path) == (
        "5.00% anomalies assumed; left out as the likeliest: 10 of 200 training, 1 of 20 "
        f"validation, 10 of 200 calibration sequences; look at them in {tmp_path / FILE}"
    )


def test_the_stated_rate_names_its_price():
    pipeline = fitted(parts_of((190, 10), (19, 1), (190, 10)), assume_anomalies=0.05)
    assert "the 10 calibration sequences left out are anomalies" in pipeline.calibration_note()
    assert "the rate may be 9.95%" in pipeline.calibration_note()


def test_a_damaged_list_is_refused(tmp_path):
    (tmp_path / FILE).write_text('{"part": ')
    with pytest.raises(ArtifactError, match="damaged"):
        read_table(tmp_path)


@pytest.mark.parametrize("share", [-0.01, 0.21, 3.0, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ConfigError, match=r"no share from 0 to 0\.2"):
        make_config({"assume_anomalies": share}, "test")


def test_a_share_that_leaves_too_little_to_calibrate_by_is_refused_before_training():
    with pytest.raises(ConfigError, match=r"leaves 16 of 20 calibration .* needs 19"):
        fitted(parts_of((40, 0), (10, 0), (20, 0)), assume_anomalies=0.2)


def test_a_share_that_leaves_nothing_of_a_part_is_refused():
    with pytest.raises(ConfigError, match="leaves nothing of 1 validation sequences"):
        fitted(parts_of((40, 0), (0, 1), (40, 0)), assume_anomalies=0.1)


def test_a_detector_of_labels_refuses_a_share(monkeypatch):
    monkeypatch.setitem(DETECTORS, FromLabels.name, f"{__name__}:{FromLabels.__name__}")
    with pytest.raises(ConfigError, match="learns from labels"):
        oddlog.fit(["none.log"], make_config({"detector": "from_labels",
                                              "assume_anomalies": 0.01}, "test"))  # fmt: skip


@pytest.mark.data
def test_on_hdfs_all_that_is_anomalous_is_among_what_is_left_out(data_folder):
    sequences = oddlog.datasets.open_dataset("hdfs_v1", data_folder).sequences
    random = np.random.default_rng(0)
    normal = random.choice(np.flatnonzero(~sequences.anomalous), 3880, replace=False)
    odd = random.choice(np.flatnonzero(sequences.anomalous), 120, replace=False)
    pool = sequences.take(np.concatenate([normal, odd]))
    assert highest(rarity(pool), MARGIN * 0.03)[pool.anomalous].all()
