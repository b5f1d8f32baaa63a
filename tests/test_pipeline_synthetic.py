import numpy as np
import pytest

from oddlog.detectors.new_event import NewEvent
from oddlog.events import Sequences
from oddlog.findings import Scores
from oddlog.nn.validation import BASE_RATE
from oddlog.pipeline.synthetic import synthetic_auprc
from oddlog.run import Run

NORMALS = Sequences.from_ids([[i % 5, 5, 6, 7 + i % 3] for i in range(30)])


class Blind(NewEvent):
    def score(self, sequences):
        return Scores(np.zeros(len(sequences), dtype=np.float32))


class Knowing(NewEvent):
    def score(self, sequences):
        ids, begins = sequences.template_ids(), sequences.offsets[:-1]
        right = [
            b - a == 4 and ids[a] < 5 and ids[a + 1] == 5 and ids[a + 2] == 6 and ids[a + 3] > 6
            for a, b in zip(begins, sequences.offsets[1:], strict=True)
        ]
        return Scores(1 - np.array(right, dtype=np.float32))


class Counting(NewEvent):
    def score(self, sequences):
        return Scores(np.abs(sequences.lengths - 4).astype(np.float32))


def fitted(cls):
    detector = cls(cls.Config())
    detector.fit(NORMALS, NORMALS, Run())
    return detector


def test_a_detector_that_tells_nothing_apart_gets_the_base_rate():
    assert synthetic_auprc(fitted(Blind), NORMALS) == pytest.approx(BASE_RATE)


def test_a_detector_that_knows_what_is_normal_gets_nearly_all():
    # a few replaced events are right too, where no normal has that pair
    assert synthetic_auprc(fitted(Knowing), NORMALS) > 0.9


def test_the_same_seed_gives_the_same_number_and_another_one_another():
    detector = fitted(Counting)
    first = synthetic_auprc(detector, NORMALS, 1)
    assert first == synthetic_auprc(detector, NORMALS, 1)
    assert first != synthetic_auprc(detector, NORMALS, 2)
