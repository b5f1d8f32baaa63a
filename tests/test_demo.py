"""The demo: simulate, learn, find what was planted."""

import polars as pl
import pytest

from oddlog import demo
from oddlog.demo import Demo, run_demo, with_planted
from oddlog.events import Sequences
from oddlog.pipeline import Pipeline
from oddlog.run import Run

VISIBLE = {"unseen_error", "stack_trace", "foreign_step", "truncated"}
FAST = {
    "session_by": demo.SESSION,
    "false_alarm_rate": 0.05,
    "loggpt": demo.SETTINGS["loggpt"] | {"width": 32, "epochs": 10, "count_steps": 300},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> tuple[Demo, object]:
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SETTINGS", FAST)
        return run_demo(folder, n_sessions=600, seed=1, run=Run(seed=1)), folder


def test_each_kind_of_fault_that_few_sessions_can_teach_is_found(found):
    recall = {kind.name: kind.recall.value for kind in found[0].by_kind}
    assert set(recall) >= VISIBLE
    assert all(recall[name] > 0 for name in VISIBLE)


def test_the_detector_ranks_better_than_the_trivial_rules(found):
    ranked = {name: one.ranking.auprc.value for name, one in found[0].evaluations.items()}
    assert max(ranked, key=ranked.__getitem__) == "loggpt"


def test_the_first_culprit_is_a_planted_line_far_more_often_than_by_chance(found):
    culprits = found[0].culprits
    assert culprits.first.value > 3 * culprits.chance_first


def test_every_planted_session_has_a_line_to_be_found(found):
    assert (found[0].culprits.n, found[0].culprits.n_without_line) == (16, 0)


def test_logs_truth_and_model_are_left_behind(found):
    files = {str(path.relative_to(found[1])) for path in found[1].rglob("*.*") if path.is_file()}
    assert files >= {
        "yesterday/cluster.log",
        "today/cluster.log",
        "today/labels.csv",
        "today/planted.csv",
        "model/manifest.json",
        "report.html",
    }


def test_the_model_that_is_left_behind_scores_the_same(found):
    done, folder = found
    again = Pipeline.load(folder / "model").score([folder / "today" / "cluster.log"])
    assert again.scores.sequence == pytest.approx(done.result.scores.sequence, rel=1e-4)


def test_the_report_tells_of_the_faults_that_were_found(found):
    done, folder = found
    text = (folder / "report.html").read_text(encoding="utf-8")
    kinds = set(done.result.verdicts()["label"]) - {""}
    assert kinds
    assert all(f'<span class="tag label" title="label">{kind}</span>' in text for kind in kinds)


def test_yesterday_holds_no_fault(found):
    labels = pl.read_csv(found[1] / "yesterday" / "labels.csv")["label"]
    assert set(labels) == {"normal"}


def test_the_verdict_is_told_in_three_lines(found):
    told = found[0].lines()
    own = found[0].evaluations["loggpt"].decision
    assert told[0] == f"false alarms: {own.n_false_alarms} of 184 normal sessions"
    assert [line.split()[0] for line in told] == ["false", "the", "ranking,"]


def test_planted_lines_are_labelled_with_their_kind():
    sequences = Sequences.from_ids([[1, 2], [3]])
    planted = pl.DataFrame({"session": ["0"], "line": [2], "kind": ["truncated"]})
    labelled = with_planted(sequences, planted)
    assert labelled.events["label"].to_list() == ["", "truncated", ""]
