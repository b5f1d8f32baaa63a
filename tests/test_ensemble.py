"""Several detectors as one: what is combined, who is blamed, what is stored, what is refused."""

import json
import math
from typing import ClassVar

import numpy as np
import pytest

import oddlog
from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.cli import main
from oddlog.config import Config, build
from oddlog.detectors import DETECTORS, detector_class
from oddlog.ensemble import ROBUST, Ensemble, EnsembleConfig
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation, Scores
from oddlog.pipeline import make_config, update_pipeline
from oddlog.run import Run

RULES_ONLY = ("new_event", "key_set")
NORMALS = Sequences.from_ids([[0, 1, 2]] * 4)
UNKNOWN = -1
TINY = {"layers": 1, "heads": 1, "width": 8, "epochs": 2, "count_steps": 10}


class Fake:
    """A detector that scores a window by its first template id."""

    name: ClassVar[str] = "fake"
    learns_from: ClassVar[str] = "normal"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[Config]] = Config
    runs: ClassVar[list[Run]] = []

    def __init__(self, config):
        self.config = config

    def fit(self, train, valid, run):
        self.runs.append(run)

    def score(self, sequences):
        first = sequences.template_ids()[sequences.offsets[:-1]]
        return Scores(np.abs(first).astype(np.float32))

    def explain(self, sequences):
        return [Explanation(key, ()) for key in sequences.keys]

    def save(self, folder):
        write_json(folder / "config.json", {})


class Blaming(Fake):
    """One that scores by length, without event scores, and blames the last event."""

    name = "blaming"

    def score(self, sequences):
        return Scores(sequences.lengths.astype(np.float32))

    def explain(self, sequences):
        return [
            Explanation(key, (Culprit(int(sequences.rows[last - 1]), int(n) - 1, 2.5),))
            for key, last, n in zip(
                sequences.keys, sequences.offsets[1:], sequences.lengths, strict=True
            )
        ]


class Labelled(Fake):
    name = "from_labels"
    learns_from = "labelled"


class Knowing(Fake):
    """One that knows what is normal: windows of three, in their order."""

    name = "knowing"

    def score(self, sequences):
        ids = np.split(sequences.template_ids(), sequences.offsets[1:-1])
        return Scores(np.array([list(part) != [0, 1, 2] for part in ids], dtype=np.float32))


class Noisy(Fake):
    """One that finds the first windows odd, and no others."""

    name = "noisy"

    def score(self, sequences):
        n = len(sequences)
        return Scores(np.maximum(60 - np.arange(n), 0).astype(np.float32))


class Louder(Noisy):
    name = "louder"


@pytest.fixture
def fakes(monkeypatch):
    for cls in (Fake, Blaming, Labelled, Knowing, Noisy, Louder):
        monkeypatch.setitem(DETECTORS, cls.name, f"{__name__}:{cls.__name__}")
    Fake.runs.clear()


def fitted(members=RULES_ONLY, *, valid=NORMALS, rule="fisher", run=None, **settings):
    ensemble = Ensemble(EnsembleConfig(members=members, rule=rule, settings=settings))
    ensemble.fit(NORMALS, valid, run or Run(device="cpu"))
    return ensemble


def test_fishers_score_is_the_sum_of_what_two_rules_find():
    # four equal validation windows: a tie of all has p 1/2; one unknown template is one of the
    # scores above them, p 1/10, and one unit beyond, which halves it
    odd = Sequences.from_ids([[0, 1, 2], [0, 1, 2, UNKNOWN]])
    found = fitted().score(odd).sequence
    assert found.tolist() == pytest.approx([2 * math.log(2), 2 * math.log(20)], abs=1e-4)


@pytest.mark.parametrize(("rule", "expected"), [("minimum", math.log(20)), ("cauchy", None)])
def test_the_rule_is_the_one_asked_for(rule, expected):
    found = fitted(rule=rule).score(Sequences.from_ids([[0, 1, 2, UNKNOWN]])).sequence
    assert found[0] == pytest.approx(expected or math.log(20), abs=1e-4)


def test_each_member_has_a_measure_of_its_name():
    scores = fitted().score(Sequences.from_ids([[0, 1], [0, 1, 2, UNKNOWN]]))
    assert [*scores.measures] == ["new_event", "key_set"]
    assert scores.measures["new_event"].tolist() == pytest.approx(
        [math.log(2), math.log(20)], abs=1e-4
    )


def test_an_event_is_as_odd_as_the_member_says_that_finds_it_oddest():
    event = fitted().score(Sequences.from_ids([[0, 1, UNKNOWN]])).event
    assert event.tolist() == pytest.approx([math.log(2)] * 2 + [math.log(20)], abs=1e-4)


def test_without_a_member_that_scores_events_there_are_no_event_scores(fakes):
    assert fitted(("fake", "blaming")).score(NORMALS).event is None


def test_the_member_that_finds_a_window_rarest_names_the_culprits_and_is_named():
    odd = Sequences.from_ids([[0, 1, 2], [0, 1], [0, 1, 2, UNKNOWN]])
    found = fitted(("new_event", "key_set", "counts")).explain(odd.take([2, 1]))
    assert [culprit.by for culprit in found[0].culprits] == ["new_event"]
    assert [(c.by, c.position) for c in found[1].culprits] == [("key_set", 2)]


def test_a_culprits_row_is_one_of_the_whole_table(fakes):
    windows = Sequences.from_ids([[0], [0, 5], [0, 6, 7]])
    found = fitted(("fake", "blaming")).explain(windows)
    assert [explanation.culprits[0].row for explanation in found] == [0, 2, 5]


def test_where_the_surest_member_names_nobody_the_next_one_does(fakes):
    found = fitted(("fake", "blaming")).explain(Sequences.from_ids([[9, 0, 0]]))
    assert [culprit.by for culprit in found[0].culprits] == ["blaming"]


def test_a_culprit_of_a_member_without_event_scores_keeps_its_score(fakes):
    found = fitted(("fake", "blaming")).explain(Sequences.from_ids([[0] * 9]))
    assert found[0].culprits[0].score == 2.5


VARIED = Sequences.from_ids([[0, 1, 2]] * 60)


def test_auto_adds_up_where_every_member_has_its_say(fakes):
    assert fitted(("knowing", "new_event"), valid=VARIED, rule="auto").rule == "fisher"


def test_auto_does_not_add_up_the_noise_of_members_that_find_nothing(fakes):
    assert fitted(("knowing", "noisy", "louder"), valid=VARIED, rule="auto").rule != "fisher"


def test_auto_takes_the_robust_rule_where_no_window_can_be_corrupted(monkeypatch):
    monkeypatch.setattr("oddlog.ensemble.corrupt", lambda normals, *_: normals.take([]))
    assert fitted(rule="auto").rule == ROBUST


def test_every_member_has_its_own_folder_for_checkpoints(fakes, tmp_path):
    fitted(("fake", "blaming"), run=Run(3, checkpoints=tmp_path))
    assert [run.checkpoints for run in Fake.runs] == [tmp_path / "fake", tmp_path / "blaming"]
    assert {run.seed for run in Fake.runs} == {3}


def test_without_validation_windows_there_is_nothing_to_rank_by():
    with pytest.raises(ConfigError, match="valid_share"):
        fitted(valid=NORMALS.take([]))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"members": ["key_set"]}, "at least 2"),
        ({"members": ["key_set", "key_set"]}, "twice"),
        ({"members": ["key_set", "ensemble"]}, "cannot be a member"),
        ({"members": ["key_set", "from_labels"]}, "learns from labels"),
        ({"members": ["key_set", "unheard_of"]}, "no detector named 'unheard_of'"),
        ({"members": RULES_ONLY, "settings": {"counts": {}}}, "no member"),
        ({"members": ["key_set", "counts"], "settings": {"counts": {"idff": 1}}}, "'idf'"),
        ({"members": RULES_ONLY, "rule": "vote"}, "rule"),
    ],
)
def test_settings_that_make_no_ensemble_are_refused(fakes, given, told):
    with pytest.raises(ConfigError, match=told):
        build(EnsembleConfig, given, "test")


def test_a_members_group_of_settings_stands_beside_the_ensembles():
    config = make_config(
        {
            "detector": "ensemble",
            "ensemble": {"members": ["key_set", "counts"], "settings": {"key_set": {}}},
            "counts": {"idf": True},
        },
        "test",
    )
    built = build(EnsembleConfig, config.settings, "test")
    assert built.config_of("counts").idf


def test_settings_of_a_detector_that_is_no_member_are_refused():
    with pytest.raises(ConfigError, match="'counts', which is no member"):
        make_config(
            {"detector": "ensemble", "ensemble": {"members": RULES_ONLY}, "counts": {"idf": True}},
            "test",
        )


@pytest.fixture
def saved(tmp_path):
    fitted().save(tmp_path)
    return tmp_path


def test_each_member_is_saved_in_a_folder_of_its_name(saved):
    assert {path.name for path in (saved / "members").iterdir()} == set(RULES_ONLY)


def change_json(path, change):
    write_json(path, change(read_json(path)))


def change_ranks(folder, change):
    path = folder / "ranks.safetensors"
    save_arrays(path, change(load_arrays(path)))


DAMAGE = {
    "a rule of no name": lambda folder: write_json(folder / "rule.json", {"rule": "vote"}),
    "no rule": lambda folder: write_json(folder / "rule.json", []),
    "a member that is not there": lambda folder: (folder / "members" / "key_set").rename(
        folder / "members" / "gone"
    ),
    "a member of code to import": lambda folder: change_json(
        folder / "config.json", lambda old: old | {"members": ["key_set", "os:system"]}
    ),
    "another member's ranks": lambda folder: change_ranks(
        folder, lambda old: {**old, "counts.sequence": old["key_set.sequence"]}
    ),
    "ranks out of order": lambda folder: change_ranks(
        folder, lambda old: old | {"key_set.sequence": np.array([2.0, 1.0])}
    ),
    "ranks of another kind": lambda folder: change_ranks(
        folder, lambda old: old | {"key_set.colour": np.array([1.0])}
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_folder_is_refused(saved, damage):
    damage(saved)
    with pytest.raises(ArtifactError):
        Ensemble.load(saved)


def test_the_rule_that_was_chosen_is_kept(tmp_path, fakes):
    ensemble = fitted(("key_set", "counts"), valid=VARIED, rule="auto")
    ensemble.rule = "minimum"
    ensemble.save(tmp_path)
    assert Ensemble.load(tmp_path).rule == "minimum"


def test_learning_on_teaches_the_members_that_can_and_keeps_the_rule(fakes):
    old = fitted(("key_set", "fake"), valid=VARIED, rule="auto")
    more = Sequences.from_ids([[0, 1, 9]] * 4)
    new = old.adapt(more, more, Run())
    assert new._members["fake"] is old._members["fake"]
    assert new.score(more).measures["key_set"][0] < old.score(more).measures["key_set"][0]
    assert new.rule == old.rule


def test_a_network_beside_rules_is_trained_with_its_settings(tmp_path):
    ensemble = fitted(("loggpt", "counts"), valid=VARIED, rule="auto", loggpt=TINY)
    odd = Sequences.from_ids([[0, 1, 2], [0, 2, 1], [UNKNOWN, 1, 2, 2]])
    ensemble.save(tmp_path)
    loaded = Ensemble.load(tmp_path, device="cpu")
    assert detector_class("loggpt").load(tmp_path / "members" / "loggpt", "cpu").config.width == 8
    assert loaded.score(odd).sequence.tolist() == ensemble.score(odd).sequence.tolist()
    assert {record["member"] for record in ensemble.history} == {"loggpt"}


def write(path, sessions):
    """Write sessions one after the other, a second between two lines."""
    told, second = [], 0
    for number, steps in enumerate(sessions):
        for step in steps:
            clock = f"{8 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            told.append(f"2026-03-02 {clock} {step} req_{1000 + number}")
            second += 1
    path.write_text("\n".join([*told, ""]))
    return path


USUAL = ("open", "copy", "close")


@pytest.fixture
def logs(tmp_path):
    new = [
        ("open", "lease granted to", "copy", "close") if i % 5 == 0 else USUAL for i in range(800)
    ]
    return {
        "old": write(tmp_path / "old.log", [USUAL] * 600),
        "release": write(tmp_path / "release.log", new),
        "odd": write(tmp_path / "odd.log", [("open", "disk burns at", "close"), USUAL, new[0]]),
    }


def run_command(monkeypatch, capsys, *arguments):
    """Run a command and return the JSON lines that it prints."""
    monkeypatch.setattr("sys.argv", ["oddlog", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        main()
    out = capsys.readouterr()
    assert not leaving.value.code, out.err
    return [json.loads(line) for line in out.out.splitlines()]


def test_the_command_line_fits_scores_and_explains_by_several(logs, tmp_path, monkeypatch, capsys):
    model = tmp_path / "model"
    run_command(
        *(monkeypatch, capsys, "fit", logs["old"], "--model", model, "--detector", "ensemble"),
        *("--set", 'ensemble.members=["counts", "key_set"]', "--set", "ensemble.rule=cauchy"),
        *("--set", "counts.idf=true", "--session-by", r"req_\d+", "--false-alarm-rate", "0.02"),
    )
    assert oddlog.load(model).detector._members["counts"].config.idf
    record, *_ = run_command(
        monkeypatch, capsys, "score", logs["odd"], "--model", model, "--explain"
    )
    assert record["key"] == "req_1000"
    assert record["culprits"][0]["by"] == "key_set"


def test_an_update_teaches_the_members_and_calibrates_again(logs):
    settings = {"members": ["key_set", "counts"]}
    config = make_config(
        {
            "detector": "ensemble",
            "ensemble": settings,
            "session_by": r"req_\d+",
            "false_alarm_rate": 0.02,
        },
        "test",
    )
    pipeline = oddlog.fit([logs["old"]], config)
    updated = update_pipeline(pipeline, [logs["release"]])
    assert "ensemble" in updated.learned
    flags = [p.score([logs["odd"]]).flags.tolist() for p in (pipeline, updated.pipeline)]
    assert flags == [[True, False, True], [True, False, False]]
