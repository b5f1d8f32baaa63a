"""A system that is released anew: what changes, what does not, and that the truth is true."""

import re
from collections import defaultdict
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from oddlog.errors import ConfigError
from oddlog.simulate import KINDS, Pace, simulate_drifting, write_drifting
from oddlog.simulate.cluster import CRASHES, ERRORS, LINES, NOISE, PROCESS
from oddlog.simulate.drifting import DAY_US, REMARKS, draw_releases, shares_of_steps
from oddlog.simulate.wording import REMOVED, REPLACED, constant_words, draw_edits, reword

PACE = Pace(n_releases=4, reworded=0.1, added=2, retired=1, rollout=0.5)
N_BEFORE, N_EACH, SHARE = 120, 80, 0.3


@pytest.fixture(scope="module")
def made():
    return simulate_drifting(N_BEFORE, N_EACH, anomaly_share=SHARE, seed=3, pace=PACE)


def pattern(text):
    parts = (re.escape(part) for part in re.split(r"\{\w+\}", text))
    return re.compile(r"\S+".join(parts))


def texts_of(changes, release):
    """Return what a release's templates say, by step, from the table of changes alone."""
    texts = {}
    for row in changes.filter(pl.col("release") <= release).iter_rows(named=True):
        if row["old"] is not None:
            assert texts.pop(row["step"]) == row["old"]
        if row["new"] is not None:
            texts[row["step"]] = row["new"]
    return texts


class Read:
    """A log read back from its raw lines, by the templates that each session's release has."""

    def __init__(self, made):
        self.label = dict(made.simulation.labels.rows())
        self.release = dict(made.ran.rows())
        fixed = {name: line.text for name, line in (ERRORS | CRASHES).items()}
        patterns = [
            {name: pattern(text) for name, text in (fixed | texts_of(made.changes, r)).items()}
            for r in range(PACE.n_releases + 1)
        ]
        self.steps, self.numbers = defaultdict(list), defaultdict(list)
        for number, line in enumerate(made.simulation.lines, start=1):
            block = re.search(r"blk_\d+", line)
            if block:
                session = block[0]
                known = patterns[self.release[session]]
                message = line.split(" - - ", 1)[1]
                (step,) = (name for name, text in known.items() if text.fullmatch(message))
                self.steps[session].append(step)
                self.numbers[session].append(number)

    def own(self, session):
        """Return a session's steps without remarks."""
        return [step for step in self.steps[session] if not step.startswith("remark")]


@pytest.fixture(scope="module")
def read(made):
    return Read(made)


def test_every_line_of_a_session_is_a_template_of_the_release_it_ran_under(read):
    assert sum(map(len, read.steps.values())) > 5000  # Read takes lines apart by those alone


def test_a_session_without_its_remarks_is_one_of_the_process_unless_it_is_faulty(read):
    refused = {session for session in read.steps if PROCESS.refused(read.own(session)) is not None}
    assert refused == {session for session, label in read.label.items() if label}


def test_remarks_stand_directly_behind_a_step_and_always(made, read):
    follows, alone = defaultdict(set), set()
    for session, steps in read.steps.items():
        release = read.release[session]
        for place, step in enumerate(steps):
            behind = []
            for other in steps[place + 1 :]:
                if not other.startswith("remark"):
                    break
                behind.append(other)
            if not step.startswith("remark"):
                follows[release, step].add(tuple(behind))
        alone |= {session} if steps[0].startswith("remark") else set()
    assert not alone
    assert {len(seen) for seen in follows.values()} == {1}
    assert any(behind for seen in follows.values() for behind in seen)


def test_the_planted_line_is_where_a_fault_shows(made, read):
    for session, line, kind in made.simulation.planted.rows():
        step = read.steps[session][read.numbers[session].index(line)]
        own = read.own(session)
        if kind == "truncated":
            assert line in read.numbers[session][-3:]
        elif not step.startswith("remark"):
            numbers = [n for n, s in zip(read.numbers[session], read.steps[session], strict=True)
                       if not s.startswith("remark")]  # fmt: skip
            assert PROCESS.refused(own) <= numbers.index(line)


def test_kinds_and_shares_of_faults_are_the_same_under_every_release(made):
    labels = made.simulation.labels["label"].to_list()
    bounds = np.cumsum([0, N_BEFORE, *[N_EACH] * PACE.n_releases])
    for begin, end in pairwise(bounds):
        faulty = [label for label in labels[begin:end] if label]
        assert len(faulty) == round(SHARE * (end - begin))
        counts = [faulty.count(kind) for kind in KINDS]
        assert max(counts) - min(counts) <= 1


def test_old_and_new_run_side_by_side_and_then_the_new_one_alone(made):
    ran = made.ran["release"].to_numpy()
    assert (ran[:N_BEFORE] == 0).all()
    for release in range(1, PACE.n_releases + 1):
        period = ran[N_BEFORE + (release - 1) * N_EACH :][:N_EACH]
        mixed, rest = period[: N_EACH // 2], period[N_EACH // 2 :]
        assert set(mixed) == {release - 1, release}
        assert mixed[:20].mean() < mixed[20:].mean()
        assert (rest == release).all()


def test_each_release_changes_as_many_templates_as_stated(made):
    for release in range(1, PACE.n_releases + 1):
        n_live = len(texts_of(made.changes, release - 1)) - PACE.retired
        own = made.changes.filter(pl.col("release") == release)["change"].to_list()
        counts = {kind: own.count(kind) for kind in set(own)}
        expected = {"reworded": round(0.1 * n_live), "added": 2, "retired": 1}
        assert counts == expected


def test_steps_are_reworded_only_and_remarks_come_and_go(made):
    later = made.changes.filter(pl.col("release") > 0)
    gone = later.filter(pl.col("change") != "reworded")["step"]
    assert gone.str.starts_with("remark").all()
    assert len(gone) == 3 * PACE.n_releases


def test_a_release_leaves_alone_what_more_sessions_hold_than_it_reaches(made):
    common = {step for step, share in shares_of_steps().items() if share > PACE.reach}
    assert common == {*("allocate", "open", "received", "close", "register", "commit", "complete")}
    later = made.changes.filter(pl.col("release") > 0)
    assert common.isdisjoint(later["step"])


def test_no_text_ever_comes_back_and_none_is_a_faults(made):
    shapes = [re.sub(r"\{\w+\}", "{}", text) for text in made.changes["new"].drop_nulls()]
    lines = [*ERRORS.values(), *CRASHES.values(), *NOISE]
    shapes += [re.sub(r"\{\w+\}", "{}", line.text) for line in lines]
    assert len(set(shapes)) == len(shapes)


def test_a_reworded_template_keeps_its_variables_in_their_order(made):
    for row in made.changes.filter(pl.col("change") == "reworded").iter_rows(named=True):
        variables = [re.findall(r"\{\w+\}", row[side]) for side in ("old", "new")]
        assert variables[0] == variables[1]


def test_releases_do_not_hang_on_the_number_of_sessions(made):
    other = simulate_drifting(10, 5, anomaly_share=0.0, seed=3, pace=PACE)
    assert other.changes.equals(made.changes)


def test_a_seed_writes_the_same_log_and_another_another():
    first, again, other = (
        simulate_drifting(10, 8, anomaly_share=0.1, seed=seed, pace=PACE) for seed in (1, 1, 2)
    )
    assert first.simulation.lines.equals(again.simulation.lines)
    assert first.ran.equals(again.ran)
    assert not first.simulation.lines.equals(other.simulation.lines)


def test_the_log_takes_about_the_stated_time(made):
    times = [line.split(" ")[1] for line in made.simulation.lines if line.startswith("<")]
    first, last = (np.datetime64(text.rstrip("Z")) for text in (times[0], times[-1]))
    days = (last - first) / np.timedelta64(DAY_US, "us")
    assert 0.7 * PACE.days < days < 1.3 * PACE.days


def test_release_0_has_the_clusters_own_words():
    (first,) = draw_releases(Pace(n_releases=0), np.random.default_rng(0))
    assert {name: first.lines[name] for name in LINES} == LINES


def test_what_is_written_can_be_read_back(made, tmp_path):
    log, *_ = write_drifting(made, tmp_path)
    assert log.read_text().splitlines() == made.simulation.lines.to_list()
    assert pl.read_csv(tmp_path / "ran.csv").equals(made.ran)
    assert pl.read_csv(tmp_path / "releases.csv").equals(made.changes)


@pytest.mark.parametrize(
    "pace",
    [
        Pace(n_releases=-1),
        Pace(reworded=1.5),
        Pace(rollout=-0.1),
        Pace(days=0),
        Pace(reach=0),
        Pace(n_words=0),
        Pace(added=len(REMARKS)),
        Pace(added=0, retired=2),
    ],
)
def test_a_pace_that_cannot_be_kept_is_refused(pace):
    with pytest.raises(ConfigError, match="simulate_drifting"):
        simulate_drifting(5, 5, anomaly_share=0.0, seed=0, pace=pace)


def test_words_that_are_no_variables_may_change():
    assert constant_words("sent {size} of 3 blocks, to /{peer} sent") == [
        "sent",
        "of",
        "blocks,",
        "to",
    ]


def test_an_edit_changes_the_first_such_word():
    assert reword("sent to to you", [(REMOVED, "to", ""), (REPLACED, "sent", "gave")]) == (
        "gave to you"
    )


def test_as_many_words_are_edited_as_there_are():
    edits = draw_edits(["of"], 3, np.random.default_rng(0))
    assert [word for _, word, _ in edits] == ["of"]
