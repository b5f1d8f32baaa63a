"""What scoring yields: tables, records, alerts, other rates, evaluation."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

import oddlog
from oddlog.errors import ConfigError, LabelsError
from oddlog.pipeline import make_config

N_NORMAL = 400
SETTINGS = {"detector": "new_event", "session_by": r"req_\d+", "false_alarm_rate": 0.02}


def lines(sessions):
    """Write sessions, lists of steps, one after the other, a second between two lines."""
    told, second = [], 0
    for number, steps in enumerate(sessions):
        for step in steps:
            clock = f"{8 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            told.append(f"2026-03-02 {clock} {step} req_{1000 + number}")
            second += 1
    return "\n".join([*told, ""])


USUAL = ["open", "copy", "close"]
TODAY = [
    USUAL,
    ["open", "disk burns at", "close"],
    USUAL,
    ["open", "disk burns at", "disk burns at", "close"],
    [*USUAL, "checked"],
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "a.log").write_text(lines([USUAL] * N_NORMAL))
    return oddlog.fit([folder / "a.log"], make_config(SETTINGS, "test"))


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "today.log"
    path.write_text(lines(TODAY))
    return path


@pytest.fixture(scope="module")
def result(pipeline, log):
    return pipeline.score([log])


@pytest.fixture
def nothing(pipeline, tmp_path):
    """Return the result of a log whose lines name no session."""
    (tmp_path / "idle.log").write_text("2026-03-02 08:00:00 still alive\n" * 3)
    return pipeline.score([tmp_path / "idle.log"])


def with_labels(pipeline, log, odd):
    table = pl.DataFrame(
        {
            "session": [f"req_{1000 + i}" for i in range(len(TODAY))],
            "label": ["anomaly" if i in odd else "" for i in range(len(TODAY))],
        }
    )
    return pipeline.score([log], labels=table)


def test_the_table_has_a_row_for_each_sequence_in_the_order_of_the_log(result):
    assert result.table()["key"].to_list() == [f"req_{1000 + i}" for i in range(5)]


def test_a_row_says_where_the_sequence_stands(result, log):
    row = result.table().row(1, named=True)
    assert (row["source"], row["first_line"], row["last_line"], row["n_events"]) == (
        str(log),
        4,
        6,
        3,
    )
    assert (row["first_time"], row["last_time"]) == (
        datetime(2026, 3, 2, 8, 0, 3, tzinfo=UTC),
        datetime(2026, 3, 2, 8, 0, 5, tzinfo=UTC),
    )


def test_flags_scores_and_threshold_agree(result):
    table = result.table()
    assert (table["flagged"] == (table["score"] > table["threshold"])).all()


def test_what_was_never_seen_is_flagged(result):
    assert result.flags.tolist() == [False, True, False, True, True]


def test_the_smallest_p_value_is_one_in_the_calibration_and_one(result):
    n = len(result.calibration)
    assert result.p_values.min() == 1 / (n + 1)


def test_flagged_sequences_come_worst_first(result):
    assert result.flagged().tolist() == [3, 1, 4]


def test_the_drift_of_a_result_is_that_of_its_scores_flags_and_templates(pipeline, tmp_path):
    path = tmp_path / "new.log"
    path.write_text(lines([["open", "lease granted to", "close"], USUAL] * 60))
    drift = pipeline.score([path]).drift
    assert (drift.flagged.n_flagged, drift.flagged.n_sequences) == (60, 120)
    assert drift.shift.distance == pytest.approx(0.5)
    assert [(t.n_sequences, t.text) for t in drift.unknown.templates] == [
        (60, "lease granted to <SESSION>")
    ]
    assert drift.warning is not None


def test_the_drift_at_another_rate_counts_its_flags(result):
    assert result.drift.flagged.n_flagged == 3
    assert result.at(0.0001).drift.flagged.n_flagged == 0


def test_another_rate_changes_the_flags_and_not_the_scores(result):
    strict = result.at(0.0001)
    assert strict.flags.sum() == 0
    assert strict.scores is result.scores


def test_a_rate_that_is_none_is_refused(result):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        result.at(1.5)


def test_a_rate_too_small_for_the_calibration_is_told(result):
    assert "nothing can be flagged" in result.at(0.0001).lines()[-1]


def test_a_rate_that_is_large_enough_is_not_complained_of(result):
    assert not [line for line in result.at(0.0001).at(0.05).lines() if "too few" in line]


def test_without_flags_there_is_no_threshold_in_the_table(result):
    assert result.at(0.0001).table()["threshold"].to_list() == [None] * 5


def test_records_are_the_flagged_sequences_worst_first(result):
    assert [record["key"] for record in result.records()] == ["req_1003", "req_1001", "req_1004"]


def test_records_can_be_written_as_json(result):
    records = result.records(every=True, explain=True)
    assert json.loads(json.dumps(records, allow_nan=False)) == records


def test_records_of_every_sequence_are_in_the_order_of_the_log(result):
    records = result.records(every=True)
    assert [record["flagged"] for record in records] == result.flags.tolist()


def test_only_flagged_sequences_have_culprits(result):
    records = result.records(every=True, explain=True)
    assert [record["culprits"] is not None for record in records] == result.flags.tolist()


def test_culprits_are_the_lines_that_were_never_seen(result):
    told = {record["key"]: record["culprits"] for record in result.records(explain=True)}
    lines_blamed = {key: [c["line"] for c in culprits] for key, culprits in told.items()}
    assert lines_blamed == {"req_1001": [5], "req_1003": [11, 12], "req_1004": [17]}


def test_a_culprit_shows_the_novel_template(result):
    culprit = result.records(explain=True)[0]["culprits"][0]
    assert culprit["template"] == "disk burns at <SESSION>"
    assert culprit["template_id"] < 0


def test_chosen_sequences_can_be_explained_whether_flagged_or_not(result):
    told = result.explain(np.array([0, 1]))
    assert [len(culprits) for culprits in told] == [0, 1]


def test_alerts_carry_every_line_of_their_sequence(result, log):
    alert = result.alerts()[1]
    assert (alert.key, alert.sources, alert.model) == ("req_1001", (str(log),), "new_event")
    assert [(line, text[20:]) for _, line, text in alert.lines] == [
        (4, "open req_1001"),
        (5, "disk burns at req_1001"),
        (6, "close req_1001"),
    ]


def test_alerts_and_records_agree(result):
    records = result.records(explain=True)
    alerts = [asdict(alert) for alert in result.alerts()]
    for name in ("key", "score", "p_value", "threshold", "culprits"):
        assert [list_of(alert[name]) for alert in alerts] == [r[name] for r in records]


def list_of(value):
    return list(value) if isinstance(value, tuple) else value


def test_novel_events_are_counted_in_the_notes(result):
    assert "4 events of 2 templates unknown at fit time" in result.lines()


def test_a_log_without_windows_has_no_records_and_says_so(nothing):
    assert nothing.records(every=True, explain=True) == []
    assert "no sequences" in "\n".join(nothing.lines())


def test_a_log_without_windows_has_no_alerts(nothing):
    assert (nothing.alerts(), nothing.explain(), len(nothing)) == ([], [], 0)


def test_no_verdicts_have_the_columns_of_some(nothing, result):
    empty, full = (found.verdicts(explain=True) for found in (nothing, result))
    assert empty.schema == full.schema


def test_verdicts_survive_parquet(result, tmp_path):
    table = result.verdicts(every=True, explain=True)
    table.write_parquet(tmp_path / "v.parquet")
    assert pl.read_parquet(tmp_path / "v.parquet").equals(table)


def test_labels_change_no_score(pipeline, log, result):
    scores = with_labels(pipeline, log, {1}).scores.sequence
    assert scores.tolist() == result.scores.sequence.tolist()


def test_labels_are_shown_in_the_table(pipeline, log):
    found = with_labels(pipeline, log, {1}).table()["label"].to_list()
    assert found == ["", "anomaly", "", "", ""]


def test_an_evaluation_counts_what_is_counted_by_hand(pipeline, log):
    # flagged: 1, 3, 4; anomalous: 1, 2, 3 -> two hits, one false alarm, one missed, one passed
    decision = pipeline.evaluate(with_labels(pipeline, log, {1, 2, 3}))["new_event"].decision
    counts = (decision.n_hits, decision.n_false_alarms, decision.n_missed, decision.n_passed)
    assert counts == (2, 1, 1, 1)
    assert (decision.precision.value, decision.recall.value) == (2 / 3, 2 / 3)


def test_an_evaluation_leaves_unknown_labels_out(pipeline, log):
    some = pl.DataFrame({"session": ["req_1000", "req_1001"], "label": ["", "anomaly"]})
    found = pipeline.evaluate(pipeline.score([log], labels=some))["new_event"]
    assert (found.n_sequences, found.n_anomalous) == (2, 1)


def test_baselines_are_judged_beside_the_detector(pipeline, log):
    found = pipeline.evaluate(with_labels(pipeline, log, {1, 3}))
    assert [*found] == ["new_event", "key_set", "counts"]


def test_baselines_are_judged_at_the_rate_of_the_result(pipeline, log):
    found = pipeline.evaluate(with_labels(pipeline, log, {1, 3}).at(0.0001))
    assert [judged.decision.n_hits for judged in found.values()] == [0, 0, 0]


def test_an_evaluation_can_be_written_as_json(pipeline, log):
    found = pipeline.evaluate(with_labels(pipeline, log, {1, 3}))
    json.dumps({name: judged.to_dict() for name, judged in found.items()}, allow_nan=False)


def test_without_labels_there_is_no_evaluation(pipeline, result):
    with pytest.raises(LabelsError, match="no sequence has a label"):
        pipeline.evaluate(result)
