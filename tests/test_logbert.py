import math

import numpy as np
import pytest
from pydantic import ValidationError

from known_logbert import KEYS, N_TRAIN, TINY, TRAIN, fit, sessions, unigram
from oddlog.artifact import read_json, write_json
from oddlog.detectors.logbert import LogBERT, LogBERTConfig
from oddlog.detectors.logbert.adapt import grow
from oddlog.detectors.logbert.readers import COUNTS, ORDER
from oddlog.encode import UNKNOWN
from oddlog.errors import ArtifactError, ConfigError
from oddlog.findings import END, Scores
from oddlog.run import Run

LN2, LN4, LN8 = math.log(2), math.log(4), math.log(8)
UNSEEN = math.log(N_TRAIN + 1) + math.log(len(KEYS) + 1)
# A request is three times read or twice written: which of the two, only its other events tell.
READ, WRITE, OPEN, SYNC, CLOSE = 1, 2, 3, 4, 5
REQUESTS = [[OPEN, READ, READ, READ, CLOSE], [OPEN, WRITE, WRITE, SYNC, CLOSE]]


@pytest.fixture(scope="module")
def eighths(tmp_path_factory):
    """Return the detector that gives p = 1/8 to the end, 1/2 to 10, 1/4 to 20, 1/8 to 30."""
    return unigram(tmp_path_factory.mktemp("eighths"))


@pytest.fixture(scope="module")
def requests():
    """Return a detector with both readers that has learned ``REQUESTS``."""
    settings = {"epochs": 6, "epoch_batches": 50, "count_steps": 360, "learning_rate": 5e-3}
    return fit(REQUESTS * 20, reads="both", width=16, dropout=0.0, cut_rate=0.0, **settings)


def test_ranks_and_surprises_are_those_of_the_known_shares(eighths):
    measures = eighths.score(sessions([[10, 20, 30], [30]])).measures
    assert measures["rank"].tolist() == [0, 1, 2, 2]
    assert measures["surprise"] == pytest.approx([LN2, LN4, LN8, LN8], rel=1e-5)
    assert measures["end_rank"].tolist() == [2, 2]
    assert measures["end_surprise"] == pytest.approx([LN8, LN8], rel=1e-5)


def test_a_window_without_its_end_is_not_asked_for_it(eighths):
    measures = eighths.score(sessions([[10, 20]], ends=False)).measures
    assert measures["end_surprise"].tolist() == [0]
    assert measures["n_masked"].tolist() == [2]


def test_an_unseen_template_is_less_likely_than_any_candidate(eighths):
    measures = eighths.score(sessions([[10, 99]])).measures
    assert measures["rank"].tolist() == [0, len(KEYS) + 1]
    assert measures["surprise"][1] == pytest.approx(UNSEEN, rel=1e-5)


def test_misses_are_the_keys_outside_the_top_g(tmp_path):
    detector = unigram(tmp_path, top_g=2)  # 10 and 20; 30 and the end are tied behind them
    measures = detector.score(sessions([[10, 30, 20, 30, 99], [10]])).measures
    assert measures["n_missed"].tolist() == [4, 1]
    assert measures["n_masked"].tolist() == [6, 2]


def misses(n_missed, n_masked):
    nothing = np.zeros(len(n_missed), dtype=np.float32)
    counts = {"n_missed": np.array(n_missed), "n_masked": np.array(n_masked)}
    return Scores(sequence=nothing, event=None, measures=counts)


def test_the_papers_rule_counts_misses():
    rule = LogBERT(LogBERTConfig(misses=2)).paper_rule(misses([2, 3], [3, 30]))
    assert rule.tolist() == [False, True]


def test_the_released_rule_takes_a_share_of_the_masked_keys():
    rule = LogBERT(LogBERTConfig(misses=0.5)).paper_rule(misses([2, 3, 0], [4, 5, 0]))
    assert rule.tolist() == [False, True, False]


def test_a_drawn_rule_masks_about_the_share_that_training_masks(tmp_path):
    detector = unigram(tmp_path, rule="drawn", mask_share=0.4, end_mark=False)
    long = sessions([np.random.default_rng(i).choice(KEYS, size=12).tolist() for i in range(500)])
    n_masked = detector.score(long).measures["n_masked"]
    assert np.mean(n_masked / 12) == pytest.approx(0.4, abs=0.03)
    assert len(np.unique(n_masked)) > 3


def test_a_drawn_rule_is_the_same_twice(tmp_path):
    detector = unigram(tmp_path, rule="drawn", top_g=1)
    twice = [detector.score(sessions([[10, 30, 20], [30, 30]])).measures for _ in range(2)]
    assert twice[0]["n_missed"].tolist() == twice[1]["n_missed"].tolist()
    assert twice[0]["n_missed"].sum() > 0


def test_the_presets_are_those_of_the_paper_and_the_code():
    paper, code = (LogBERTConfig.model_validate({"preset": name}) for name in ("paper", "code"))
    assert (paper.layers, paper.width, paper.inner, paper.misses) == (2, 50, 256, 1)
    assert (code.layers, code.width, code.mask_share, code.misses) == (4, 256, 0.65, 0.5)


def test_what_is_given_goes_before_a_preset():
    assert LogBERTConfig.model_validate({"preset": "code", "layers": 1}).layers == 1


def test_heads_have_to_divide_the_width():
    with pytest.raises(ValidationError, match="no multiple"):
        LogBERTConfig(width=10, heads=4)


def test_a_key_is_judged_by_what_comes_behind_it(requests):
    surprise = requests.score(sessions([[OPEN, WRITE, READ, READ, CLOSE]])).measures["surprise"]
    usual = requests.score(sessions(REQUESTS)).measures["surprise"]
    assert surprise[1] > 2 * usual.max()


def test_a_count_that_does_not_fit_the_others_is_odder_than_any_normal_session(requests):
    odd = [[OPEN, READ, READ, READ, READ, CLOSE], [OPEN, WRITE, SYNC, CLOSE]]
    assert requests.score(sessions(odd)).sequence.min() > (
        requests.score(sessions(REQUESTS)).sequence.max()
    )


def test_one_event_too_many_is_a_culprit(requests):
    (found,) = requests.explain(sessions([[OPEN, READ, READ, READ, READ, CLOSE]]))
    assert any(1 <= culprit.position <= 4 for culprit in found.culprits[:2])


def test_a_missing_template_is_expected_in_its_place_or_at_the_end(requests):
    (found,) = requests.explain(sessions([[OPEN, WRITE, WRITE, CLOSE]]))
    expected = {template for culprit in found.culprits[:3] for template, _ in culprit.expected}
    assert SYNC in expected


def test_of_two_sessions_with_an_unseen_template_the_one_that_is_odd_besides_ranks_first(requests):
    plain, odd = [OPEN, 99, READ, READ, READ, CLOSE], [OPEN, 99, READ, SYNC, SYNC, SYNC, CLOSE]
    scores = requests.score(sessions([plain, odd, [OPEN, 99, 98, READ, READ, READ, CLOSE]]))
    assert scores.sequence[1] > scores.sequence[0]
    assert scores.sequence[2] > scores.sequence[0]


def test_the_counts_of_a_session_that_goes_on_are_not_judged(requests):
    begun = sessions([[OPEN, READ]], ends=False)
    assert requests.score(begun).sequence[0] < requests.score(sessions([[OPEN, READ]])).sequence[0]


def test_of_a_truncated_session_the_end_is_expected_not_to_come(requests):
    (found,) = requests.explain(sessions([[OPEN, READ, READ]]))
    assert END not in {template for template, _ in found.culprits[0].expected[:1]}


def test_training_lowers_both_losses(requests):
    for history in (requests.history, requests.counts_history):
        assert history[-1]["valid_loss"] < history[0]["valid_loss"]


def test_where_no_window_can_be_corrupted_the_distance_counts_for_nothing():
    train, single = sessions(TRAIN), sessions([[10]] * 3, ends=False)
    detector = LogBERT(LogBERTConfig(**TINY))
    detector.fit(train, single, Run(device="cpu"))
    assert detector._scale.weight == 0


def test_validation_windows_with_no_known_template_are_refused():
    with pytest.raises(ConfigError, match="no known template"):
        fit(TRAIN, [[77, 78]])


def test_a_resumed_training_gives_the_scores_of_an_unbroken_one(tmp_path):
    settings = {"epochs": 3, "reads": "both", "count_steps": 6}
    whole = fit(TRAIN * 5, **settings)

    def stop(stage, done, total):
        if stage == "masked counts" and done == 4:
            raise KeyboardInterrupt

    run = Run(device="cpu", checkpoints=tmp_path, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        fit(TRAIN * 5, run=run, **settings)
    run = Run(device="cpu", checkpoints=tmp_path, resume=True)
    resumed = fit(TRAIN * 5, run=run, **settings)
    windows = sessions([[10, 30, 20], [30]])
    assert resumed.score(windows).sequence.tolist() == whole.score(windows).sequence.tolist()


@pytest.mark.parametrize(
    "damage",
    [
        {"judged_marks": [True]},
        {"scale": {}},
        {"scale": None},
        {"templates": [1, 1]},
        {"n_training_events": "many"},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_a_damaged_model_is_refused(damage, tmp_path):
    fit(TRAIN).save(tmp_path)
    vocab = read_json(tmp_path / "vocab.json")
    write_json(tmp_path / "vocab.json", vocab | damage)
    with pytest.raises(ArtifactError, match="fit the model again"):
        LogBERT.load(tmp_path, "cpu")


def test_a_centre_of_another_width_is_refused(tmp_path):
    fit(TRAIN).save(tmp_path)
    write_json(tmp_path / "config.json", read_json(tmp_path / "config.json") | {"width": 16})
    with pytest.raises(ArtifactError, match="centre"):
        LogBERT.load(tmp_path, "cpu")


def test_a_grown_network_shows_new_templates_as_unknown_and_keeps_its_mask(requests):
    reader = requests._order
    keys = requests._vocabulary.with_more(np.array([77, 78]))
    grown = grow(reader.network, ORDER, requests.config, keys, "cpu")
    old, new = (
        network.bert.embeddings.word_embeddings.weight for network in (reader.network, grown)
    )
    assert new[-3:].tolist() == [*[old[UNKNOWN].tolist()] * 2, old[-1].tolist()]
    assert new[:-3].tolist() == old[:-1].tolist()


def test_a_grown_network_of_counts_has_places_like_that_of_the_rarest_template(requests):
    reader = requests._counts
    keys = requests._vocabulary.with_more(np.array([77, 78]))
    grown = grow(reader.network, COUNTS, requests.config, keys, "cpu")
    old, new = (
        network.bert.embeddings.position_embeddings.weight for network in (reader.network, grown)
    )
    assert new.tolist() == [*old.tolist(), old[-1].tolist(), old[-1].tolist()]


def test_adapting_leaves_the_old_detector_as_it_is():
    detector, late = fit(TRAIN, reads="both", count_steps=2), sessions([[10, 77, 20]])
    before = detector.score(sessions(TRAIN)).sequence.tolist()
    adapted = detector.adapt(late, late, Run(device="cpu"))
    assert adapted.score(late).measures["rank"].max() <= 4
    assert detector.score(sessions(TRAIN)).sequence.tolist() == before
