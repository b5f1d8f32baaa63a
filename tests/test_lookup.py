import pytest

from oddlog.detectors.lookup import UNSEEN, Lookup, LookupConfig
from oddlog.events import Sequences
from oddlog.run import Run

TRAIN = ([[1, 2], [2, 1], [1, 2], [3], [3, 3]], ["", "", "lost", "lost", "disk"])


def fitted(ids, labels):
    detector = Lookup(LookupConfig())
    train = Sequences.from_ids(ids, labels)
    detector.fit(train, train, Run())
    return detector


def test_score_is_the_share_of_anomalies_among_sequences_with_the_same_counts():
    scores = fitted(*TRAIN).score(Sequences.from_ids([[2, 1], [3]]))
    assert scores.sequence.tolist() == pytest.approx([1 / 3, 1])
    assert scores.n_unjudged == 0


@pytest.mark.parametrize("ids", [[1], [1, 2, 2], [1, 2, -1], [9]])
def test_what_was_never_seen_is_taken_for_anomalous_and_counted(ids):
    scores = fitted(*TRAIN).score(Sequences.from_ids([ids, [1, 2], ids]))
    assert scores.sequence.tolist() == pytest.approx([UNSEEN, 1 / 3, UNSEEN])
    assert scores.n_unjudged == 2


def test_kinds_are_those_of_the_same_counts_or_of_all_training():
    scores = fitted(*TRAIN).score(Sequences.from_ids([[3, 3], [9]]))
    assert scores.class_names == ("", "disk", "lost")
    assert scores.class_probs is not None
    assert scores.class_probs[0].tolist() == pytest.approx([0, 1, 0])
    assert scores.class_probs[1].tolist() == pytest.approx([1 - UNSEEN, UNSEEN / 3, UNSEEN * 2 / 3])


def test_the_rule_is_the_majority_of_what_was_seen():
    detector = fitted(*TRAIN)
    flags = detector.paper_rule(detector.score(Sequences.from_ids([[1, 2], [3], [9]])))
    assert flags.tolist() == [False, True, True]


def test_all_that_is_unlike_the_normal_is_to_blame():
    (explanation,) = fitted(*TRAIN).explain(Sequences.from_ids([[1, 1, 2, -1]]))
    assert [culprit.position for culprit in explanation.culprits] == [3, 0, 1]
