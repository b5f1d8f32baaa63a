"""From flagged windows of a stream to the alerts that a person gets: once each, and explained.

Of windows with the same templates one is explained, and the others are counted on its alert. A
window that was raised while it was open is not raised again when it closes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.alerts import Judgement, Learned, Stories, alert_id, make_alerts
from oddlog.detectors import reads_text
from oddlog.drain import Novelties
from oddlog.events import Sequences
from oddlog.explain import culprit_records, likely_kind
from oddlog.findings import Alert
from oddlog.masks import mask
from oddlog.pipeline import Pipeline
from oddlog.pipeline.result import likeliest
from oddlog.watch.drifting import DriftWatch
from oddlog.watch.scoring import Floats

DRIFT = "drift"
THE_LOG = "(the log)"
Flagged = tuple[NDArray[np.int64], Floats, Floats]
"""Numbers of the flagged windows, their scores and their p-values, (k,) each."""
Terms = tuple[Learned, float, datetime]
"""What feedback has taught, the false-alarm rate in force, and what time it is."""


class Raiser:
    """Explains flagged windows and folds them into stories.

    Args:
        pipeline: What flagged them.
        drift: Tells when the log as a whole has changed.
        stories: What was raised before.
        novel: Gives the texts of unknown templates.
    """

    def __init__(
        self, pipeline: Pipeline, drift: DriftWatch, stories: Stories, novel: Novelties
    ) -> None:
        self.stories = stories
        self.counts: Counter[str] = Counter()
        self.grown: list[Alert] = []
        self.drifting = False
        self._pipeline = pipeline
        self._detector = pipeline.detector
        self._fingerprint = pipeline.fingerprint
        self._drift = drift
        self._novel = novel
        self._names: dict[int, str] = {}
        self._open: dict[str, None] = {}  # keys of open windows that were raised

    def text_of(self, template_id: int) -> str:
        """Return a template's text; that of an unknown one is its first message, masked.

        Drain makes a novelty more general as more of it arrives, which would give its story
        another name, and a replay in other portions other names.
        """
        if template_id >= 0:
            return self._pipeline.templates.text(template_id)
        if template_id not in self._names:
            first = pl.Series([self._novel.example(template_id)])
            masked = mask(first, self._novel.config.masks)[0]
            self._names[template_id] = " ".join(masked.split())
        return self._names[template_id]

    def raise_whole(
        self, windows: Sequences, flagged: Flagged, terms: Terms, *, last: bool
    ) -> list[Alert]:
        """Return the alerts that begin with windows that were judged as a whole.

        Args:
            windows: All that were judged, flagged or not.
            flagged: Which are flagged.
            terms: See ``Terms``.
            last: The windows are closed and will not be judged again.
        """
        begun = self._check_drift(terms)
        fresh = self.not_raised(windows, flagged)
        if last and self._open:
            for key in windows.keys:
                self._open.pop(key, None)
        elif not last:
            self._open |= dict.fromkeys(windows.keys.gather(fresh[0]))
        return begun + self._raise(windows, fresh, terms, early=False)

    def raise_early(self, windows: Sequences, flagged: Flagged, terms: Terms) -> list[Alert]:
        """Return the alerts that begin with windows that are still open and not raised yet."""
        self._open |= dict.fromkeys(windows.keys.gather(flagged[0]))
        return self._raise(windows, flagged, terms, early=True)

    def not_raised(self, windows: Sequences, flagged: Flagged) -> Flagged:
        """Return those of the flagged windows that were not raised while they were open."""
        index, scores, p_values = flagged
        if not len(index) or not self._open:
            return flagged
        keys = windows.keys.gather(index)
        fresh = np.array([key not in self._open for key in keys], dtype=bool)
        return index[fresh], scores[fresh], p_values[fresh]

    def _raise(
        self, windows: Sequences, flagged: Flagged, terms: Terms, *, early: bool
    ) -> list[Alert]:
        if not len(flagged[0]):
            return []
        begun: dict[str, Alert] = {}
        for alert in self._explained(windows, flagged, terms, early=early):
            for found in self._take(alert, terms):
                begun[found.id] = found
        # as they are now: what follows in the same push was counted on what began it
        return [self.stories[i].alert if i in self.stories else a for i, a in begun.items()]

    def _take(self, alert: Alert, terms: Terms) -> list[Alert]:
        """Fold an alert into its story, and return what begins."""
        learned, _, now = terms
        if learned.silences(alert.signature, now):
            self.counts["silenced"] += alert.count
            return []
        unknown = alert.signature.startswith("unknown: ")
        if unknown and self._drift.active(now.timestamp()):
            begun = self._check_drift(terms)
            self.counts["drift"] += alert.count
            told = replace(self._drift_alert(now), count=alert.count, last_time=alert.last_time)
            more, grown = self.stories.fold([told], now)
            self.grown += grown
            return begun + more
        begun, grown = self.stories.fold([alert], now)
        self.grown += grown
        self.counts["raised"] += len(begun)
        if unknown and begun:
            self._drift.begin_unknown(now.timestamp())
        return begun

    def _check_drift(self, terms: Terms) -> list[Alert]:
        """Raise an alert when the log begins to drift."""
        learned, _, now = terms
        before, self.drifting = self.drifting, self._drift.active(now.timestamp())
        if before or not self.drifting or learned.silences(DRIFT, now):
            return []
        begun, grown = self.stories.fold([self._drift_alert(now)], now)
        self.grown += grown
        self.counts["raised"] += len(begun)
        return begun

    def _drift_alert(self, now: datetime) -> Alert:
        shift = self._drift.shift
        return Alert(
            key=THE_LOG,
            score=shift.distance if shift else 1.0,
            p_value=shift.p_value if shift else 0.0,
            threshold=None,
            first_time=None,
            last_time=None,
            sources=(),
            lines=(),
            culprits=(),
            count=1,
            model=self._detector.name,
            id=alert_id(self._fingerprint, THE_LOG, now.isoformat(), DRIFT),
            signature=DRIFT,
            kind=DRIFT,
            raised=now,
            note=self._drift.note(now.timestamp()),
        )

    def _explained(
        self, windows: Sequences, flagged: Flagged, terms: Terms, *, early: bool
    ) -> list[Alert]:
        """Make an alert of each distinct window, with the number of those that are like it."""
        index, scores, p_values = flagged
        learned, rate, now = terms
        first, counts = self._distinct(windows.take(index))
        chosen = windows.take(index[first])
        threshold = learned.threshold(rate)
        judgement = Judgement(
            model=self._detector.name,
            fingerprint=self._fingerprint,
            threshold=threshold if np.isfinite(threshold) else None,
            raised=now,
            early=early,
        )
        culprits = culprit_records(self._detector.explain(chosen), chosen, self.text_of)
        alerts = make_alerts(
            chosen, scores[first], p_values[first], culprits, judgement, self._kinds(chosen)
        )
        return [replace(alert, count=n) for alert, n in zip(alerts, counts, strict=True)]

    def _distinct(self, windows: Sequences) -> tuple[NDArray[np.int64], list[int]]:
        """Return where each distinct window stands first, and how many are like it."""
        if reads_text(self._detector):
            return np.arange(len(windows)), [1] * len(windows)
        ids, bounds = windows.template_ids(), windows.offsets.tolist()
        marks = zip(windows.starts.tolist(), windows.ends.tolist(), strict=True)
        places: dict[Hashable, list[int]] = {}
        for i, mark in enumerate(marks):
            string = mark, ids[bounds[i] : bounds[i + 1]].tobytes()
            places.setdefault(string, []).append(i)
        first = np.array([found[0] for found in places.values()], dtype=np.int64)
        return first, [len(found) for found in places.values()]

    def _kinds(self, windows: Sequences) -> list[str | None]:
        if self._detector.learns_from != "labelled":
            return []
        found = likeliest(self._detector.score(windows.without_labels())).to_list()
        kinds = [likely_kind({"classes": classes}) for classes in found]
        return [kind[0] if kind else None for kind in kinds]

    def close(self) -> None:
        """Forget which windows were raised while they were open: all are closed."""
        self._open.clear()

    def state(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return {
            "stories": self.stories.state(),
            "counts": dict(self.counts),
            "drifting": self.drifting,
            "names": list(self._names.items()),
            "open": list(self._open),
        }

    def load(self, state: Mapping[str, Any], novel: Novelties) -> None:
        """Take up what ``state`` described."""
        self.stories = Stories.restore(self.stories.story_s, state["stories"])
        self.counts = Counter(state["counts"])
        self.drifting = state["drifting"]
        self._names = dict(state["names"])
        self._open = dict.fromkeys(state["open"])
        self._novel = novel
