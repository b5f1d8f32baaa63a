"""The watcher: what it raises and when, what it remembers, what it forgets."""

import json
from dataclasses import replace

import polars as pl
import pytest

from oddlog.errors import ArtifactError, ConfigError, FormatError
from oddlog.group import Window
from oddlog.watch import WatchConfig, Watcher
from watching import ODD, START, USUAL, feed, fitted, lines


def signatures(alerts):
    return [alert.signature for alert in alerts]


def windowed(detector, text):
    """Return the pipeline under another window rule."""
    pipeline = fitted(detector)
    config = pipeline.config.model_copy(update={"window": Window.parse(text)})
    return replace(pipeline, config=config)


def test_an_odd_session_is_raised_with_its_lines_and_its_culprit():
    watcher = Watcher(fitted("key_set"))
    raised = feed(watcher, lines([USUAL, ODD, USUAL, USUAL]))
    raised += watcher.flush(START)
    (alert,) = raised
    assert (alert.key, alert.signature) == ("req_1001", "unknown: disk burns at <SESSION>")
    assert [text[20:] for _, _, text in alert.lines] == [f"{step} req_1001" for step in ODD]
    assert alert.culprits[0]["message"] == "disk burns at req_1001"


def test_a_session_is_judged_once_it_was_silent_for_longer_than_training_ever_was():
    watcher = Watcher(fitted("key_set"))
    told = lines([ODD, USUAL, USUAL])
    found = [bool(watcher.push([line], START)) for line in told]
    # silent as of the fourth line, which is held back until the fifth comes
    assert found.index(True) == 4


def test_an_odd_event_of_a_causal_detector_is_raised_before_its_session_ends():
    watcher = Watcher(fitted("ngram"))
    (alert,) = feed(watcher, lines([ODD, USUAL]), size=3)
    assert (alert.key, alert.early) == ("req_1000", True)


def test_what_was_raised_early_is_not_raised_again_when_it_ends():
    watcher = Watcher(fitted("new_event"))
    feed(watcher, lines([ODD, USUAL, USUAL]))
    watcher.flush(START)
    assert [(alert.key, alert.count) for alert in watcher.alerts()] == [("req_1000", 1)]


def test_nothing_is_raised_early_where_that_is_not_wanted():
    watcher = Watcher(fitted("ngram"), WatchConfig(early=False))
    raised = feed(watcher, lines([ODD, USUAL, USUAL])) + watcher.flush(START)
    assert [alert.early for alert in raised] == [False]


def test_a_story_of_many_sessions_is_one_alert_that_counts_them():
    watcher = Watcher(fitted("key_set"))
    raised = feed(watcher, lines([ODD] * 30), size=7) + watcher.flush(START)
    assert len(raised) == 1
    assert [alert.count for alert in watcher.alerts()] == [30]


def test_what_was_counted_on_an_older_alert_is_told():
    watcher = Watcher(fitted("key_set"))
    feed(watcher, lines([ODD, USUAL, USUAL]), size=9)
    told = lines([ODD, USUAL, USUAL], first=2000, second=100)
    assert watcher.push(told, START) == []
    assert [(alert.key, alert.count) for alert in watcher.grown] == [("req_1000", 2)]


def test_a_replay_gives_the_same_ids():
    ids = []
    for size in (1, 5):
        watcher = Watcher(fitted("key_set"))
        feed(watcher, lines([USUAL, ODD, [*USUAL, "checked"], USUAL]), size=size, now=START + size)
        watcher.flush(START)
        ids.append(sorted(alert.id for alert in watcher.alerts()))
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2


def test_a_stack_trace_waits_for_its_end():
    watcher = Watcher(fitted("key_set"))
    watcher.push(["2026-03-02 08:00:00 disk burns at req_1"], START)
    watcher.push(["    at some.place(of.code)"], START)
    watcher.push([], START + 1)
    assert watcher.stats.n_events == 0
    watcher.push([], START + 3)
    assert (watcher.stats.n_events, watcher.stats.n_lines) == (1, 2)


def test_time_that_passes_without_lines_ends_a_session():
    watcher = Watcher(fitted("key_set"))
    feed(watcher, lines([ODD]), size=3)
    assert watcher.push([], START + 1) == []  # the last line may go on
    assert signatures(watcher.push([], START + 2)) == ["unknown: disk burns at <SESSION>"]


def test_time_that_passes_closes_windows_with_a_gap():
    watcher = Watcher(windowed("key_set", "session,gap=5s"))
    feed(watcher, lines([USUAL, ODD]), size=6)
    watcher.push([], START + 2)
    assert watcher.stats.n_open > 0
    watcher.push([], START + 20)
    assert (watcher.stats.n_open, len(watcher.alerts())) == (0, 1)


def test_sources_may_stand_in_one_table():
    table = pl.DataFrame({"source": ["a", "b"], "text": lines([["open"], ["disk burns at"]])})
    watcher = Watcher(fitted("key_set"))
    watcher.push(table, START)
    (alert,) = watcher.flush(START)[-1:]
    assert alert.sources == ("b",)


def test_a_table_without_the_text_of_lines_is_refused():
    with pytest.raises(FormatError, match="'text'"):
        Watcher(fitted("key_set")).push(pl.DataFrame({"source": ["a"]}), START)


def test_what_memory_has_no_room_for_is_closed_and_counted():
    watcher = Watcher(fitted("key_set"), WatchConfig(max_sessions=3, early=False))
    feed(watcher, [f"2026-03-02 08:00:00 open req_{n}" for n in range(20)], size=4)
    assert (watcher.stats.n_open, watcher.stats.n_evicted) == (3, 16)


def test_a_session_that_was_judged_leaves_without_being_judged_again():
    judged = []
    watcher = Watcher(
        fitted("key_set"),
        WatchConfig(max_sessions=3),
        listener=lambda sequences, scores: judged.extend(sequences.keys),
    )
    feed(watcher, lines([USUAL] * 20), size=3)
    watcher.flush(START)
    assert (len(judged), len(set(judged)), watcher.stats.n_evicted) == (20, 20, 0)


def test_a_false_alarm_is_not_raised_again():
    watcher = Watcher(fitted("key_set"), WatchConfig(story_s=1))
    (alert,) = feed(watcher, lines([ODD, USUAL, USUAL]))
    watcher.feedback(alert.id, "false_alarm", START)
    told = lines([ODD, USUAL, USUAL], first=2000, second=100)
    assert feed(watcher, told, now=START + 100) == []
    assert watcher.stats.n_silenced == 1


def test_feedback_that_is_taken_back_leaves_no_trace():
    watcher = Watcher(fitted("key_set"), WatchConfig(story_s=1))
    (alert,) = feed(watcher, lines([ODD, USUAL, USUAL]))
    watcher.feedback(alert.id, "false_alarm", START)
    watcher.withdraw_feedback(alert.id)
    told = lines([ODD, USUAL, USUAL], first=2000, second=100)
    assert len(feed(watcher, told, now=START + 100)) == 1


def test_a_false_alarm_takes_the_scores_of_all_its_sequences_along():
    watcher = Watcher(fitted("key_set"))
    feed(watcher, lines([ODD] * 4), size=5)
    watcher.flush(START)
    (alert,) = watcher.alerts()
    assert watcher.feedback(alert.id, "false_alarm", START).scores == (2.0,) * 4


def test_feedback_on_an_alert_that_nobody_remembers_is_refused():
    with pytest.raises(ConfigError, match="no alert 'x'"):
        Watcher(fitted("key_set")).feedback("x", "real", START)


def test_a_budget_lowers_the_rate_as_sequences_come():
    watcher = Watcher(fitted("key_set"), WatchConfig(budget=24 * 1.5))
    feed(watcher, lines([USUAL] * 120), size=90)
    watcher.flush(START)
    assert watcher.stats.windows_per_day == pytest.approx(24 * 120)
    assert watcher.stats.rate == pytest.approx(1.5 / 120)


def test_many_new_templates_are_one_drift_alert():
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    watcher = Watcher(fitted("new_event"))
    raised = feed(watcher, lines([[f"{word} {word}ly {word}s"] for word in words]), size=10)
    raised += watcher.flush(START)
    kinds = [alert.kind for alert in raised]
    assert (kinds.count(None), kinds.count("drift")) == (20, 1)
    (drift,) = [alert for alert in watcher.alerts() if alert.kind == "drift"]
    assert drift.count == 1 + 80
    assert "oddlog update" in drift.note


def test_a_log_that_scores_higher_as_a_whole_is_one_drift_alert():
    watcher = Watcher(fitted("key_set"))
    raised = feed(watcher, lines([["open", "close"]] * 2_500), size=500)
    assert [alert.kind for alert in raised].count("drift") == 1
    assert watcher.stats.drifting


def test_unknown_templates_are_counted_and_shown():
    watcher = Watcher(fitted("key_set"))
    feed(watcher, lines([ODD, ODD, USUAL]), size=9)
    watcher.flush(START)
    assert watcher.unknown_templates() == [("disk burns at <SESSION>", 2)]
    assert watcher.stats.unknown_rate == pytest.approx(2 / 9)


def test_stats_are_plain_values_for_json():
    watcher = Watcher(fitted("key_set"))
    feed(watcher, lines([USUAL, USUAL, USUAL]), size=9)
    told = json.loads(json.dumps(watcher.stats.to_dict()))
    assert (told["n_lines"], told["n_open"]) == (8, 3)


def test_the_state_of_another_model_is_refused():
    state = Watcher(fitted("key_set")).state()
    with pytest.raises(ArtifactError, match="another model"):
        Watcher.restore(fitted("ngram"), state)


@pytest.mark.parametrize("part", ["intake", "windows", "novel", "raiser", "pace"])
def test_a_damaged_state_is_refused(part):
    state = Watcher(fitted("key_set")).state()
    with pytest.raises(ArtifactError, match="damaged"):
        Watcher.restore(fitted("key_set"), state | {part: {}})


@pytest.mark.parametrize("detector", ["new_event", "ngram", "length"])
def test_an_odd_event_of_a_long_session_is_raised_when_it_arrives(detector):
    told = lines([[*["open", "copy"] * 30, "disk burns at"], USUAL])
    watcher = Watcher(fitted(detector), WatchConfig(story_s=1e9))
    raised = [alert for line in told for alert in watcher.push([line], START)]
    found = raised[-1] if detector == "new_event" else raised[0]
    odd = {"new_event": 60, "ngram": 2, "length": 3}[detector]
    assert (found.early, found.n_events, found.culprits[0]["position"]) == (True, odd + 1, odd)
