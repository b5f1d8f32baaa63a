"""What becomes of flagged sequences: signatures, stories, a budget, feedback."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddlog.alerts import (
    Feedback,
    FileFeedback,
    Learned,
    MemoryFeedback,
    Pace,
    Stories,
    alert_id,
    parse_budget,
    signature_of,
)
from oddlog.calibrate import calibrate
from oddlog.errors import ArtifactError, ConfigError
from oddlog.findings import Alert

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CULPRIT = {"missing": False, "template_id": 3, "template": "disk <*> burns", "expected": []}


def alert(number=1, signature="odd: a", **changes):
    values = {
        "key": f"req_{number}",
        "score": float(number),
        "p_value": 0.001,
        "threshold": 0.5,
        "first_time": NOON,
        "last_time": NOON + number * HOUR,
        "sources": ("a.log",),
        "lines": (("a.log", 1, "a line"),),
        "culprits": ({"text": "a line"},),
        "count": 1,
        "model": "key_set",
        "id": f"id{number}",
        "signature": signature,
    }
    return Alert(**(values | changes))


def false_alarm(number=1, scores=(7.0,), **changes):
    values = {"verdict": "false_alarm", "signature": "odd: a", "scores": scores, "given": NOON}
    return Feedback(f"id{number}", **(values | changes))


def test_an_alert_comes_back_from_json_as_it_was():
    told = replace(alert(), raised=NOON, kind="disk", early=True, note="n")
    assert Alert.from_dict(json.loads(json.dumps(told.to_dict()))) == told


def test_a_damaged_alert_is_refused():
    with pytest.raises(ArtifactError, match="damaged"):
        Alert.from_dict({**alert().to_dict(), "lines": [1]})


@pytest.mark.parametrize(
    ("culprit", "kind", "told"),
    [
        (CULPRIT, None, "odd: disk <*> burns"),
        (CULPRIT | {"template_id": -2}, None, "unknown: disk <*> burns"),
        (CULPRIT | {"missing": True}, None, "ends: disk <*> burns"),
        (CULPRIT | {"missing": True, "expected": [{"template": "close"}]}, None, "missing: close"),
        (CULPRIT, "disk", "disk, odd: disk <*> burns"),
        (None, None, "the whole sequence"),
    ],
)
def test_a_signature_says_in_which_way_what_is_odd(culprit, kind, told):
    assert signature_of(culprit, kind) == told


def test_a_long_template_makes_no_long_signature():
    assert len(signature_of(CULPRIT | {"template": "x " * 9_000})) < 400


def test_alerts_of_other_models_sequences_and_signatures_have_other_ids():
    parts = ("model", "key", "time", "signature")
    changed = [[*parts[:i], "other", *parts[i + 1 :]] for i in range(len(parts))]
    assert len({alert_id(*parts), *(alert_id(*others) for others in changed)}) == 5


def test_what_is_odd_in_the_same_way_is_one_story():
    stories = Stories(3600)
    begun, _ = stories.fold([alert(1), alert(2, "odd: b"), alert(3)], NOON)
    assert [(found.id, found.count) for found in begun] == [("id1", 2), ("id2", 1)]


def test_a_story_goes_on_as_long_as_it_is_seen_in_time():
    stories = Stories(3600)
    found = [stories.fold([alert(n)], NOON + n * HOUR)[1] for n in range(3)]
    assert [grown[0].count if grown else 0 for grown in found] == [0, 2, 3]


def test_after_some_silence_a_story_begins_anew():
    stories = Stories(3600)
    stories.fold([alert(1)], NOON)
    begun, grown = stories.fold([alert(2)], NOON + HOUR + timedelta(seconds=1))
    assert ([found.id for found in begun], grown) == (["id2"], [])


def test_a_story_lasts_until_the_last_of_its_sequences():
    stories = Stories(3600)
    stories.fold([alert(1), alert(5), alert(3)], NOON)
    assert stories["id1"].alert.last_time == NOON + 5 * HOUR


def test_an_alert_that_is_replayed_begins_no_other_story():
    stories = Stories(1)
    stories.fold([alert(1)], NOON)
    assert stories.fold([alert(1)], NOON + HOUR)[0] == []


def test_the_oldest_stories_are_forgotten(monkeypatch):
    monkeypatch.setattr("oddlog.alerts.stories.MAX_STORIES", 2)
    stories = Stories(3600)
    stories.fold([alert(n, f"odd: {n}") for n in range(5)], NOON)
    assert [found.id for found in stories.alerts()] == ["id3", "id4"]


def test_stories_come_back_from_json_as_they_were():
    stories = Stories(3600)
    stories.fold([alert(1), alert(2, "odd: b"), alert(3)], NOON)
    back = Stories.restore(3600, json.loads(json.dumps(stories.state())))
    assert (back.state(), back.fold([alert(4)], NOON)[1][0].count) == (stories.state(), 3)


@pytest.mark.parametrize(
    ("text", "per_day"), [("20/day", 20), ("2/hour", 48), ("7 per week", 1), ("0.5/day", 0.5)]
)
def test_a_budget_is_so_many_alerts_a_day(text, per_day):
    assert parse_budget(text) == pytest.approx(per_day)


@pytest.mark.parametrize("text", ["20", "0/day", "a/day", "-1/day", "20/year"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(ConfigError, match="20/day"):
        parse_budget(text)


def paced(per_hour, hours):
    pace = Pace()
    for hour in range(hours):
        for part in range(6):
            pace.add(per_hour // 6, NOON + hour * HOUR + part * HOUR / 6)
    return pace


def test_a_budget_divided_by_the_sequences_of_a_day_is_the_rate():
    rate = paced(600, 48).rate(0.01, 20, 100_000)
    assert rate.per_day == pytest.approx(600 * 24, rel=0.01)
    assert rate.value == pytest.approx(20 / rate.per_day)
    assert rate.expected == pytest.approx(20)


def test_the_first_minutes_are_taken_for_an_hour():
    pace = Pace()
    pace.add(100, NOON)
    assert pace.per_day == pytest.approx(2_400)


def test_only_the_last_day_counts():
    pace = paced(6_000, 5)
    pace.add(60, NOON + 60 * HOUR)
    assert pace.per_day == pytest.approx(60)


def test_a_budget_raises_no_rate():
    assert paced(6, 48).rate(0.01, 1_000, 100_000).value == 0.01


def test_a_budget_too_fine_for_the_calibration_says_what_is_to_be_expected():
    rate = paced(6_000, 48).rate(0.01, 1, 999)
    assert (rate.value, rate.expected) == (0.001, pytest.approx(144, rel=0.01))


def test_a_pace_comes_back_from_json_as_it_was():
    pace = paced(60, 30)
    assert Pace.restore(json.loads(json.dumps(pace.state()))).state() == pace.state()


@given(st.lists(st.floats(0, 10), max_size=20), st.floats(0, 12))
def test_whatever_is_marked_a_false_alarm_no_p_value_gets_smaller(scores, score):
    calibration = calibrate(np.arange(10.0))
    learned = Learned.of(calibration, [false_alarm(scores=tuple(scores))])
    assert learned.p_values([score])[0] >= calibration.p_values([score])[0]


def test_what_scores_as_a_false_alarm_did_is_less_rare_afterwards():
    calibration = calibrate(np.arange(9.0))
    learned = Learned.of(calibration, [false_alarm(scores=(20.0, 21.0))])
    assert learned.p_values([19.0])[0] == pytest.approx(3 / 12)  # two of eleven, and itself
    assert calibration.p_values([19.0])[0] == pytest.approx(1 / 10)


def test_the_threshold_after_feedback_is_where_the_flags_are():
    calibration = calibrate(np.arange(99.0))
    learned = Learned.of(calibration, [false_alarm(scores=(120.0,) * 5)])
    threshold = learned.threshold(0.05)
    asked = threshold + np.array([-1e-3, 1e-3])
    assert (learned.p_values(asked) <= 0.05).tolist() == [False, True]


def test_a_false_alarm_silences_its_signature_for_good():
    learned = Learned.of(calibrate([1.0]), [false_alarm()])
    assert learned.silences("odd: a", NOON + 9_999 * HOUR)
    assert not learned.silences("odd: b", NOON)


def test_a_snooze_ends():
    snooze = false_alarm(verdict="snooze", until=NOON + HOUR)
    learned = Learned.of(calibrate([1.0]), [snooze])
    assert [learned.silences("odd: a", NOON + h * HOUR) for h in (0, 1)] == [True, False]


def test_what_is_real_silences_nothing_and_moves_nothing():
    learned = Learned.of(calibrate([1.0]), [false_alarm(verdict="real")])
    assert not learned.silences("odd: a", NOON)
    assert learned.corrected is learned.fitted


@pytest.mark.parametrize("changes", [{"verdict": "maybe"}, {"verdict": "snooze"}, {"until": NOON}])
def test_feedback_that_says_nothing_clear_is_refused(changes):
    with pytest.raises(ConfigError, match="feedback"):
        false_alarm(**changes)


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    return MemoryFeedback() if request.param == "memory" else FileFeedback(tmp_path / "f.json")


def test_the_last_word_on_an_alert_counts(store):
    store.put(false_alarm(1))
    store.put(false_alarm(2))
    store.put(false_alarm(1, verdict="real"))
    assert [(kept.alert_id, kept.verdict) for kept in store.all()] == [
        ("id2", "false_alarm"),
        ("id1", "real"),
    ]


def test_feedback_can_be_taken_back(store):
    store.put(false_alarm(1))
    store.withdraw("id1")
    store.withdraw("never said")
    assert store.all() == []


def test_feedback_in_a_file_outlives_the_process(tmp_path):
    said = false_alarm(verdict="snooze", until=NOON, scores=(1.5, 2.5))
    FileFeedback(tmp_path / "f.json").put(said)
    assert FileFeedback(tmp_path / "f.json").all() == [said]


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"alert_id": "x"}]', "nonsense"])
def test_a_damaged_feedback_file_is_refused(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(ArtifactError, match="damaged"):
        FileFeedback(tmp_path / "f.json").all()
