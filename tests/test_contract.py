"""What every detector of ``DETECTORS`` promises, whatever it is made of.

A new detector gets these tests by its line in ``DETECTORS``. One that needs smaller settings to
train in seconds names them in ``CONTRACT_SETTINGS``.
"""

import inspect
import subprocess
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import known_logllm
from chat_endpoint import serve
from oddlog.config import Config, build, to_toml
from oddlog.detectors import BASELINES, DETECTORS, Adaptive, Detector, detector_class
from oddlog.errors import ConfigError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Scores
from oddlog.run import Run

CONTRACT_SETTINGS = {
    "deeplog": {"width": 16, "epochs": 15, "batch_size": 16, "learning_rate": 0.01},
    "loggpt": {
        "layers": 2,
        "heads": 2,
        "width": 16,
        "context": 32,
        "epochs": 6,
        "batch_size": 16,
        "learning_rate": 0.01,
        "count_steps": 60,
    },
    "logbert": {
        "heads": 2,
        "width": 16,
        "inner": 32,
        "context": 32,
        "epochs": 6,
        "epoch_batches": 20,
        "batch_size": 16,
        "learning_rate": 0.01,
        "count_steps": 60,
    },
    "gpt2_classifier": {
        "heads": 2,
        "width": 16,
        "context": 64,
        "min_steps": 60,
        "epochs": 1,
        "parts": 5,
        "batch_size": 16,
        "learning_rate": 0.01,
    },
    "logllm": known_logllm.SETTINGS,
    "ensemble": {"members": ["new_event", "key_set", "counts"]},  # see also test_ensemble
}
N_NORMAL, N_PLANTED = 40, 10
LABEL = "fault"
TEXTS = (
    "session opened",
    "request received",
    "read block",
    "block sent",
    "transfer finished",
    "checksum verified",
    "cache refreshed",
    "session closed",
    "exception while writing block",
    "node unreachable, giving up",
)
LOAD_AND_SCORE = """
import sys
sys.modules["sklearn"] = None  # what only fits is not needed to score
from dataclasses import replace
from pathlib import Path
import numpy as np
import polars as pl
from oddlog.detectors import detector_class
from oddlog.events import Sequences
for line in sys.stdin:
    name, folder = line.split(" ", maxsplit=1)
    folder = Path(folder.rstrip())
    offsets = np.load(folder / "offsets.npy")
    events = pl.read_parquet(folder / "events.parquet")
    ids = events["template_id"].to_numpy()
    sequences = Sequences.from_arrays(ids, offsets, [None] * (len(offsets) - 1))
    try:
        detector = detector_class(name).load(folder / "detector", device="cpu")
        np.save(folder / "scores.npy", detector.score(replace(sequences, events=events)).sequence)
        print("scored", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


def normal(rng):
    """Draw a session that opens, moves some blocks, and closes."""
    blocks = [2, 3] * rng.integers(1, 4)
    return [0, 1, *blocks, 4, 5, *([6] if rng.random() < 0.5 else []), 7]


def faulty(rng):
    """Draw a session with templates that no normal one has, in an order that none has."""
    return [0, 1, 8, *([3] * rng.integers(4, 7)), 8, 2, 9]


def overlong(rng):
    """Draw a session that is like normal ones, but moves more blocks than any."""
    return [0, 1, *[2, 3] * rng.integers(5, 9), 4, 5, 7]


FAULTS = {"length": overlong}
"""What is planted for a detector that looks at something else than templates."""
BLIND = ("length",)
"""Detectors to which all templates are the same, known or not."""


def sessions(ids, labels):
    sequences = Sequences.from_ids(ids, labels)
    texts = pl.Series("message", [TEXTS[i] if 0 <= i < 10 else "?" for s in ids for i in s])
    return replace(sequences, events=sequences.events.with_columns(texts))


def training_sessions(learns_from, seed):
    rng = np.random.default_rng(seed)
    n_faulty = 60 if learns_from == "labelled" else 0
    ids = [normal(rng) for _ in range(150)] + [faulty(rng) for _ in range(n_faulty)]
    return sessions(ids, [""] * 150 + [LABEL] * n_faulty)


@dataclass(frozen=True)
class Trained:
    """A detector fitted once for all tests of this module, and sessions to score."""

    name: str
    detector: Detector
    test: Sequences
    scores: Scores


def fit(name, seed=0) -> Detector:
    cls = detector_class(name)
    settings = build(cls.Config, CONTRACT_SETTINGS.get(name, {}), "CONTRACT_SETTINGS")
    detector = cls(settings)
    train, valid = (training_sessions(cls.learns_from, part) for part in (1, 2))
    detector.fit(train, valid, Run(seed=seed, device="cpu"))
    return detector


@pytest.fixture(scope="module", autouse=True)
def _endpoint():
    """Run the chat endpoint that a prompted model is asked at."""
    with serve() as endpoint:
        CONTRACT_SETTINGS["llm_prompt"] = {"url": endpoint.url, "model": "a-rule"}
        yield


@pytest.fixture(scope="module", params=DETECTORS)
def trained(request) -> Trained:
    if request.param == "logllm":
        request.getfixturevalue("tiny_models")
    detector = fit(request.param)
    rng = np.random.default_rng(3)
    plant = FAULTS.get(request.param, faulty)
    ids = [normal(rng) for _ in range(N_NORMAL)] + [plant(rng) for _ in range(N_PLANTED)]
    test = sessions(ids, [""] * N_NORMAL + [LABEL] * N_PLANTED)
    return Trained(request.param, detector, test, detector.score(test))


@pytest.fixture(scope="module")
def score_elsewhere():
    """Return a function that loads and scores a detector in another process, one for them all.

    What networks are built on takes seconds to import.
    """
    command = [sys.executable, "-c", LOAD_AND_SCORE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:

        def score(name, folder):
            process.stdin.write(f"{name} {folder}\n")
            assert process.stdout.readline() == "scored\n"
            return np.load(folder / "scores.npy")

        yield score
        process.stdin.close()


@pytest.fixture(params=DETECTORS)
def detector_type(request) -> type[Detector]:
    return detector_class(request.param)


def close(scores):
    return pytest.approx(scores, rel=1e-5, abs=1e-5)


def prefixes(sequences):
    """Return every proper prefix of every session, as live windows, session by session."""
    firsts = np.repeat(sequences.offsets[:-1], sequences.lengths - 1)
    lengths = np.concatenate([np.arange(1, n) for n in sequences.lengths])
    n = len(lengths)
    return Sequences(
        events=sequences.events,
        rows=np.concatenate(
            [sequences.rows[f : f + k] for f, k in zip(firsts, lengths, strict=True)]
        ),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        keys=pl.Series([f"prefix {i}" for i in range(n)]),
        labels=pl.Series([None] * n, dtype=pl.String),
        starts=np.ones(n, dtype=bool),
        ends=np.zeros(n, dtype=bool),
    )


def last_events(sequences, memory):
    """Return a live window for each event: it, and so many events before it."""
    last = np.arange(len(sequences.rows))
    starts_at = sequences.offsets[:-1][sequences.owners]
    first = np.maximum(starts_at, last - memory)
    parts = [sequences.rows[a : b + 1] for a, b in zip(first, last, strict=True)]
    return Sequences(
        events=sequences.events,
        rows=np.concatenate(parts),
        offsets=np.concatenate([[0], np.cumsum([len(part) for part in parts])]),
        keys=pl.Series([f"event {i}" for i in last]),
        labels=pl.Series([None] * len(last), dtype=pl.String),
        starts=(first == starts_at) & sequences.starts[sequences.owners],
        ends=np.zeros(len(last), dtype=bool),
    )


def sees_templates_or_skip(trained):
    if trained.name in BLIND:
        pytest.skip(f"{trained.name} does not look at templates")


def causal_or_skip(trained):
    if not trained.detector.causal:
        pytest.skip(f"{trained.name} says that its event scores depend on later events")


def test_the_class_carries_the_name_it_is_listed_under(detector_type):
    assert DETECTORS[detector_type.name].endswith(f":{detector_type.__name__}")


def test_the_class_says_what_it_learns_from(detector_type):
    assert detector_type.learns_from in ("normal", "labelled")


def test_config_is_the_only_constructor_argument(detector_type):
    assert list(inspect.signature(detector_type.__init__).parameters) == ["self", "config"]


def test_the_constructor_keeps_the_config(detector_type):
    config = detector_type.Config()
    assert detector_type(config).config == config


def test_the_config_is_frozen_and_refuses_unknown_settings(detector_type):
    assert issubclass(detector_type.Config, Config)
    with pytest.raises(ConfigError, match="unheard_of"):
        build(detector_type.Config, {"unheard_of": 1}, "test")


def test_the_config_survives_toml(detector_type):
    settings = CONTRACT_SETTINGS.get(detector_type.name, {})
    for config in (detector_type.Config(), detector_type.Config(**settings)):
        text = to_toml(config.model_dump())
        assert build(detector_type.Config, tomllib.loads(text), "test") == config


@pytest.mark.parametrize("step", ["score", "explain"])
def test_what_needs_a_fitted_detector_says_so(detector_type, step):
    detector = detector_type(detector_type.Config())
    with pytest.raises(NotFittedError, match="fit"):
        getattr(detector, step)(sessions([[0, 1]], [None]))


def test_an_unfitted_detector_cannot_be_saved(detector_type, tmp_path):
    with pytest.raises(NotFittedError, match="fit"):
        detector_type(detector_type.Config()).save(tmp_path)


def test_there_is_one_float32_score_for_each_sequence(trained):
    found = trained.scores.sequence
    assert (found.shape, found.dtype) == ((len(trained.test),), np.float32)


def test_there_is_one_float32_score_for_each_event_or_none_at_all(trained):
    found = trained.scores.event
    assert found is None or (found.shape, found.dtype) == (trained.test.rows.shape, np.float32)


def test_every_measure_is_beside_the_sequences_or_the_events(trained):
    lengths = {len(measure) for measure in trained.scores.measures.values()}
    assert lengths <= {len(trained.test), len(trained.test.rows)}


def test_scores_are_finite(trained):
    event = trained.scores.event
    assert np.isfinite(trained.scores.sequence).all()
    assert event is None or np.isfinite(event).all()


def test_scores_are_not_all_the_same(trained):
    assert len(np.unique(trained.scores.sequence)) > 1


def test_planted_anomalies_outrank_normals(trained):
    normals, planted = np.split(trained.scores.sequence, [N_NORMAL])
    assert (planted[:, None] > normals).mean() >= 0.95


def test_the_papers_rule_is_a_decision_for_each_sequence_or_none(trained):
    found = trained.detector.paper_rule(trained.scores)
    assert found is None or (found.shape, found.dtype) == ((len(trained.test),), np.bool_)


def test_the_same_seed_gives_the_same_scores(trained):
    again = fit(trained.name).score(trained.test)
    assert again.sequence.tolist() == trained.scores.sequence.tolist()


def test_scoring_twice_gives_the_same_scores(trained):
    again = trained.detector.score(trained.test)
    assert again.sequence.tolist() == trained.scores.sequence.tolist()


def test_the_order_of_sequences_changes_nothing(trained):
    order = np.random.default_rng(0).permutation(len(trained.test))
    shuffled = trained.detector.score(trained.test.take(order))
    assert shuffled.sequence == close(trained.scores.sequence[order])


def test_the_company_of_other_sequences_changes_nothing(trained):
    some = [0, N_NORMAL - 1, N_NORMAL, N_NORMAL + 1]
    alone = [trained.detector.score(trained.test.take([i])).sequence[0] for i in some]
    assert alone == close(trained.scores.sequence[some])


def test_no_sequences_get_no_scores(trained):
    nothing = np.array([], dtype=np.int64)
    assert trained.detector.score(trained.test.take(nothing)).sequence.shape == (0,)


def test_blanked_labels_change_nothing(trained):
    blind = trained.detector.score(trained.test.without_labels())
    assert blind.sequence.tolist() == trained.scores.sequence.tolist()


@pytest.mark.parametrize(
    "ids",
    [[0], [-1], [0, 1, 77, 2, 3, 4, 5, 7], [-1, -2, -3], [0, 1, *[2, 3] * 1000, 4, 5, 7]],
    ids=["length one", "one unknown", "a template of no number", "all unknown", "2,000 events"],
)
def test_what_is_unusual_in_form_is_scored_too(trained, ids):
    scores = trained.detector.score(sessions([[0, 1, 2, 3, 4, 5, 7], ids], [None, None]))
    assert np.isfinite(scores.sequence).tolist() == [True, True]


def test_an_unknown_template_makes_a_normal_session_no_less_anomalous(trained):
    if trained.detector.learns_from == "labelled":
        pytest.skip("a classifier may have learned that novelty means nothing")
    sees_templates_or_skip(trained)
    usual, odd = [0, 1, 2, 3, 4, 5, 7], [0, 1, -1, 2, 3, 4, 5, 7]
    scores = trained.detector.score(sessions([usual, odd], [None, None])).sequence
    assert scores[1] > scores[0]


def test_a_long_sequence_is_judged_to_its_end(trained):
    if trained.name in ("lookup", "decision_tree"):
        pytest.skip("it knows no degrees of what is unlike all that it has seen")
    usual = [0, 1, *[2, 3] * 1000, 4, 5, 7]
    # A classifier may go by one sign of the fault alone: it gets all of them.
    end = [] if trained.detector.learns_from == "labelled" else usual[-3:]
    odd = [*usual[:-3], 8, 9, 8, 9, 8, 9, *end]
    scores = trained.detector.score(sessions([usual, odd], [None, None])).sequence
    assert scores[1] > scores[0]


def test_saved_and_loaded_in_another_process_it_scores_the_same(trained, score_elsewhere, tmp_path):
    (tmp_path / "detector").mkdir()
    trained.detector.save(tmp_path / "detector")
    np.save(tmp_path / "offsets.npy", trained.test.offsets)
    trained.test.events.write_parquet(tmp_path / "events.parquet")
    found = score_elsewhere(trained.name, tmp_path)
    assert found.tolist() == trained.scores.sequence.tolist()


def test_what_it_saves_is_json_and_safetensors(trained, tmp_path):
    trained.detector.save(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".toml"}


def is_pickle(head):
    """Tell a pickle from safetensors, whose header begins the same where it has 128 bytes."""
    return head[:1] == b"\x80" and head[1] <= 5 and head[2] > 0


def test_no_file_that_it_saves_holds_a_pickle(trained, tmp_path):
    trained.detector.save(tmp_path)
    heads = [path.read_bytes()[:4] for path in tmp_path.rglob("*") if path.is_file()]
    assert heads
    assert not [head for head in heads if is_pickle(head) or head[:2] == b"PK"]


def test_every_sequence_has_an_explanation_under_its_key(trained):
    keys = [explanation.key for explanation in trained.detector.explain(trained.test)]
    assert keys == trained.test.keys.to_list()


def test_planted_anomalies_have_culprits(trained):
    explanations = trained.detector.explain(trained.test)[N_NORMAL:]
    assert all(explanation.culprits for explanation in explanations)


def test_culprits_are_events_of_their_own_sequence(trained):
    sequences = trained.test.take(np.arange(len(trained.test))[::-1])
    for i, explanation in enumerate(trained.detector.explain(sequences)):
        rows = sequences.rows[sequences.offsets[i] : sequences.offsets[i + 1]].tolist()
        rows.append(rows[-1])  # the position after the last event: the sequence stopped
        assert [rows[culprit.position] for culprit in explanation.culprits] == [
            culprit.row for culprit in explanation.culprits
        ]


def test_culprits_come_worst_first(trained):
    for explanation in trained.detector.explain(trained.test):
        scores = [culprit.score for culprit in explanation.culprits]
        assert scores == sorted(scores, reverse=True)


def test_expected_templates_have_probabilities(trained):
    shares = [
        share
        for explanation in trained.detector.explain(trained.test)
        for culprit in explanation.culprits
        for _, share in culprit.expected
    ]
    assert all(0 <= share <= 1 for share in shares)


def test_a_causal_detectors_score_never_falls_below_that_of_a_prefix(trained):
    causal_or_skip(trained)
    some = trained.test.take([0, 1, 2, N_NORMAL, N_NORMAL + 1])
    live = trained.detector.score(prefixes(some)).sequence
    bounds = np.concatenate([[0], np.cumsum(some.lengths - 1)])
    highest = np.maximum.reduceat(live, bounds[:-1])
    assert (highest <= trained.detector.score(some).sequence + 1e-5).all()


def test_a_causal_detectors_score_is_at_least_that_of_its_worst_event(trained):
    """So that an event above the threshold may be raised before its sequence has ended."""
    causal_or_skip(trained)
    found = trained.detector.score(trained.test)
    assert found.event is not None
    worst = np.maximum.reduceat(found.event, trained.test.offsets[:-1])
    assert (worst <= found.sequence + 1e-5).all()


def test_a_causal_detectors_event_scores_do_not_change_when_more_events_come(trained):
    causal_or_skip(trained)
    some = trained.test.take([0, N_NORMAL])
    live = prefixes(some)
    event, final = trained.detector.score(live).event, trained.detector.score(some).event
    assert event is not None
    assert final is not None
    assert event == pytest.approx(final[live.rows], rel=1e-4, abs=1e-4)


def test_an_event_score_needs_no_more_past_than_the_detector_says(trained):
    memory = getattr(trained.detector, "memory", None)
    if memory is None:
        pytest.skip(f"{trained.name} may look at all that came before an event")
    some = trained.test.take([0, N_NORMAL])
    tails = last_events(some, memory)
    event, final = trained.detector.score(tails).event, trained.detector.score(some).event
    assert event[tails.offsets[1:] - 1] == pytest.approx(final, rel=1e-4, abs=1e-4)


HDFS_NUMBERS = {  # 5,000 random normal sessions to learn from: precision and recall of the rule
    "new_event": (0.99, 0.36),
    "key_set": (0.99, 0.94),
    "counts": (0.88, 0.998),
}


RELEASED = 42


@dataclass(frozen=True)
class Adapted:
    """A trained detector, and one that has learned sessions with a new template besides."""

    old: Detector
    new: Detector


@pytest.fixture(scope="module")
def adapted(trained) -> Adapted:
    if not isinstance(trained.detector, Adaptive):
        pytest.skip(f"{trained.name} does not learn on")
    train, valid = (sessions(released(80, seed), [""] * 80) for seed in (5, 6))
    return Adapted(trained.detector, trained.detector.adapt(train, valid, Run(device="cpu")))


def released(n, seed):
    """Draw normal sessions, every other one with a template that is new after the first event."""
    rng = np.random.default_rng(seed)
    drawn = [normal(rng) for _ in range(n)]
    return [[ids[0], RELEASED, *ids[1:]] if i % 2 else ids for i, ids in enumerate(drawn)]


def test_calibrated_on_what_it_has_learned_it_passes_that_and_flags_faults(adapted, trained):
    calibration, later = (sessions(released(100, seed), [""] * 100) for seed in (7, 8))
    threshold = np.quantile(adapted.new.score(calibration).sequence, 0.95)
    assert np.mean(adapted.new.score(later).sequence > threshold) <= 0.15
    assert np.mean(adapted.new.score(trained.test).sequence[N_NORMAL:] > threshold) >= 0.9


def test_what_is_new_is_no_longer_the_oddest(adapted, trained):
    sees_templates_or_skip(trained)
    drawn = released(40, 7)
    ids = [[s for s in drawn if (RELEASED in s) is new] for new in (False, True)]
    before, after = (
        [d.score(sessions(part, [""] * len(part))).sequence.mean() for part in ids]
        for d in (adapted.old, adapted.new)
    )
    assert after[1] - after[0] < 0.5 * (before[1] - before[0])


def test_what_was_odd_before_learning_on_stays_odd(adapted, trained):
    scores = adapted.new.score(trained.test).sequence
    assert scores[:N_NORMAL].mean() < scores[N_NORMAL:].min()


def test_learning_on_leaves_the_old_detector_as_it_was(adapted, trained):
    assert adapted.old.score(trained.test).sequence.tolist() == trained.scores.sequence.tolist()


def test_what_has_learned_on_scores_the_same_once_saved_and_loaded(adapted, trained, tmp_path):
    adapted.new.save(tmp_path)
    loaded = type(adapted.new).load(tmp_path, device="cpu")
    assert loaded.score(trained.test).sequence == close(adapted.new.score(trained.test).sequence)


@pytest.fixture(scope="module")
def hdfs(data_folder: Path) -> tuple[Sequences, Sequences]:
    """Return 5,000 normal sessions of the full HDFS log, and all other sessions."""
    stored = np.load(data_folder / "hdfs" / "hdfs_v1_sessions.npz")
    labels = pl.Series(np.where(stored["labels"] > 0, "anomaly", ""))
    everything = Sequences.from_arrays(stored["events"], stored["offsets"], labels)
    normals = np.flatnonzero(stored["labels"] == 0)
    learned = np.zeros(len(everything), dtype=bool)
    learned[np.random.default_rng(3).choice(normals, 5000, replace=False)] = True
    return everything.take(learned), everything.take(~learned)


@pytest.mark.data
@pytest.mark.parametrize("name", BASELINES)
def test_the_baselines_reach_their_known_numbers_on_hdfs(hdfs, name):
    train, test = hdfs
    cls = detector_class(name)
    detector = cls(cls.Config())
    detector.fit(train, train, Run())
    flags = detector.paper_rule(detector.score(test))
    assert flags is not None
    hits = np.count_nonzero(flags & test.anomalous)
    found = (hits / flags.sum(), hits / test.anomalous.sum())
    assert found == pytest.approx(HDFS_NUMBERS[name], abs=0.02)
