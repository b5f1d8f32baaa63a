"""The pipeline on lines as they arrive: ``push`` lines, get alerts.

No thread and no clock of its own: who calls it says what time it is. Everything that it holds is
bounded and goes through ``state`` into JSON and back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self

import numpy as np
import polars as pl
from pydantic import Field

from oddlog.alerts import (
    Feedback,
    FeedbackStore,
    Learned,
    MemoryFeedback,
    Pace,
    Rate,
    Stories,
    Verdict,
)
from oddlog.config import Config
from oddlog.detectors import reads_text
from oddlog.drain import Novelties
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences, check_events, column
from oddlog.findings import Alert
from oddlog.group import Tails, plain
from oddlog.pipeline import Pipeline
from oddlog.pipeline.prepare import messages_of
from oddlog.watch.drifting import DriftWatch
from oddlog.watch.growth import Growth
from oddlog.watch.intake import Intake, Lines
from oddlog.watch.raising import Raiser
from oddlog.watch.scoring import Floats, Scorer, memory_of
from oddlog.watch.stats import QUANTILES, WatchStats
from oddlog.watch.windows import Looks, OpenWindows

STATE_VERSION = 2
STDIN = "-"
Listener = Callable[[Sequences, Floats], None]
"""Called with the windows that were judged, and their scores (n,)."""


class WatchConfig(Config):
    """Settings of a watcher.

    Attributes:
        max_sessions: Sessions, or sources or hosts, to hold open.
        max_events: Events to hold in open windows.
        max_cached: Distinct windows whose scores are remembered.
        false_alarm_rate: Another rate than the model was fitted for.
        budget: Alerts a day to be expected of normal windows; None for the rate alone.
        story_s: Seconds for which what is odd in the same way is counted on one alert, since it was
            last seen.
        quiet_s: Seconds after which a source's last event is whole, as nothing was added to it.
        idle_s: Seconds without a line after which a session is judged, in a log without times.
        early: Raise an alert before its window has ended where the detector allows it.
    """

    max_sessions: Annotated[int, Field(gt=0)] = 100_000
    max_events: Annotated[int, Field(gt=0)] = 500_000
    max_cached: Annotated[int, Field(gt=0)] = 200_000
    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    budget: Annotated[float, Field(gt=0)] | None = None
    story_s: Annotated[float, Field(gt=0)] = 3_600.0
    quiet_s: Annotated[float, Field(ge=0)] = 2.0
    idle_s: Annotated[float, Field(gt=0)] = 300.0
    early: bool = True


class Watcher:
    """Watches a log with a fitted pipeline.

    For lines in the same order, times that do not run backwards, and nothing evicted, the windows
    that were judged last under each key, their scores and their flags at one rate are those of
    ``Pipeline.score`` on the same file.

    Args:
        pipeline: A fitted one.
        config: Settings.
        feedback: Where it is kept what people say of alerts.
        listener: Called with every window that is judged.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: WatchConfig | None = None,
        *,
        feedback: FeedbackStore | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.config = config or WatchConfig()
        self.feedback_store = feedback or MemoryFeedback()
        self._listener = listener
        rate, own = self.config.false_alarm_rate, pipeline.calibration
        self._calibration = own if rate is None else own.at(rate)
        settings, window = pipeline.config, pipeline.config.window
        assert window is not None  # noqa: S101 -- fit stores the one it chose
        limits = {"max_open": self.config.max_sessions, "max_events": self.config.max_events}
        self._intake = Intake(settings.format, settings.session_by, self.config.quiet_s)
        growth = _growth(pipeline, self.config.early)
        self._windows = OpenWindows(window, pipeline.silences, self.config.idle_s, limits, growth)
        self._novel = Novelties(pipeline.templates.config)
        self._scorer = Scorer(pipeline.detector, self.config.max_cached)
        self._drift = DriftWatch(self._calibration.scores, self.config.story_s)
        self._raiser = Raiser(pipeline, self._drift, Stories(self.config.story_s), self._novel)
        self._pace = Pace()
        self._counts: Counter[str] = Counter()
        self._unknown: Counter[int] = Counter()
        self.reload_feedback()

    def push(self, lines: Lines, now: float, source: str = STDIN) -> list[Alert]:
        """Take the next lines and return the alerts to be raised.

        Without lines (``[]``) time passes: what has been quiet for long enough is judged.

        Args:
            lines: A table of the columns source and text, or texts of one source, without their
                ends.
            now: When they arrived, in seconds since 1970.
            source: Their source, where the lines do not say.

        Raises:
            FormatError: A table without these columns.
        """
        parts = [self._intake.push(lines, now, source), self._intake.quiet(now)]
        return self._take(parts, now)

    def flush(self, now: float) -> list[Alert]:
        """Judge everything that is open, as at the end of a log; what comes then begins anew."""
        alerts = self._take([self._intake.flush(now)], now)
        alerts += self._judge(self._windows.flush(self._intake.sources), now)
        self._raiser.close()
        return alerts

    def _take(self, parts: list[pl.DataFrame | None], now: float) -> list[Alert]:
        self._raiser.grown = []
        events = [part for part in parts if part is not None]
        table = self._with_templates(pl.concat(events, how="diagonal")) if events else None
        looks = self._windows.push(table, self._intake.sources, now)
        return self._judge(looks, now)

    def _with_templates(self, events: pl.DataFrame) -> pl.DataFrame:
        ids = self._match(events)
        strange = ids.filter(ids < 0)
        self._counts["unknown"] += len(strange)
        self._unknown.update(dict(strange.value_counts().sort(strange.name).iter_rows()))
        known = events.drop("template", strict=False)
        return check_events(known.with_columns(ids.alias("template_id")))

    def _match(self, events: pl.DataFrame) -> pl.Series:
        """Match messages; of those that no template covers, the program's own tells them apart."""
        templates = self.pipeline.templates
        messages = messages_of(events, templates)
        if "template" not in events.columns:
            return templates.match(messages, self._novel)
        given = events["template"]
        strange = templates.match(messages, Novelties(templates.config)) < 0
        return templates.match(given.zip_with(strange & given.is_not_null(), messages), self._novel)

    def _judge(self, looks: Looks, now: float) -> list[Alert]:
        raised: list[Alert] = []
        for windows, last in ((looks.closed, True), (looks.silent, False)):
            if windows is not None:
                raised += self._judge_whole(windows, now, last=last)
        if looks.grown is not None:
            raised += self._judge_early(looks.grown, now)
        return raised

    def _judge_whole(self, windows: Sequences, now: float, *, last: bool) -> list[Alert]:
        scores = self._scorer.sequence(windows)
        self._counts["windows"] += len(windows)
        self._pace.add(len(windows), _latest(windows, now))
        self._drift.add(scores)
        if self._listener is not None:
            self._listener(windows, scores)
        p_values = self._learned.p_values(scores)
        flagged = np.flatnonzero(p_values <= self.rate.value)
        self._counts["flagged"] += len(flagged)
        return self._raiser.raise_whole(
            windows, (flagged, scores[flagged], p_values[flagged]), self._terms(now), last=last
        )

    def _judge_early(self, tails: Tails, now: float) -> list[Alert]:
        scores = self._scorer.early(tails)
        p_values = self._learned.p_values(scores)
        flagged = np.flatnonzero(p_values <= self.rate.value)
        found = flagged, scores[flagged], p_values[flagged]
        index, scores, p_values = self._raiser.not_raised(tails.windows, found)
        whole = self._windows.whole(dict.fromkeys(tails.names[i] for i in index.tolist()))
        if whole is None:
            return []
        place = {key: i for i, key in enumerate(whole.keys)}
        own = np.array([place[key] for key in tails.windows.keys.gather(index)])
        return self._raiser.raise_early(whole, (own, scores, p_values), self._terms(now))

    def _terms(self, now: float) -> tuple[Learned, float, datetime]:
        return self._learned, self.rate.value, _time(now)

    @property
    def rate(self) -> Rate:
        """The false-alarm rate in force, by the budget and the windows of the last day."""
        asked, n = self._calibration.false_alarm_rate, len(self._calibration)
        return self._pace.rate(asked, self.config.budget, n)

    @property
    def grown(self) -> list[Alert]:
        """Alerts raised before the last ``push`` on which it counted something; as they are now."""
        return self._raiser.grown

    def alerts(self) -> list[Alert]:
        """Return the alerts that are remembered, oldest first, with their counts as they are."""
        return self._raiser.stories.alerts()

    def unknown_templates(self, most: int = 20) -> list[tuple[str, int]]:
        """Return the commonest templates that were not known at fit time, with their counts."""
        return [(self._raiser.text_of(i), n) for i, n in self._unknown.most_common(most)]

    def feedback(
        self, alert_id: str, verdict: Verdict, now: float, until: float | None = None
    ) -> Feedback:
        """Say of an alert that it is real or a false alarm, or silence it for some time.

        Args:
            alert_id: The alert's; it has to be among the last ``stories.MAX_STORIES``.
            verdict: "real", "false_alarm" or "snooze".
            now: Seconds since 1970.
            until: When a snooze ends, in seconds since 1970.

        Raises:
            ConfigError: No such alert or verdict, or a snooze without an end.
        """
        if alert_id not in self._raiser.stories:
            raise ConfigError(f"no alert {alert_id!r} is remembered; it may be too old")
        story = self._raiser.stories[alert_id]
        end = None if until is None else _time(until)
        signature = story.alert.signature
        said = Feedback(alert_id, verdict, signature, story.scores, _time(now), end)
        self.feedback_store.put(said)
        self.reload_feedback()
        return said

    def withdraw_feedback(self, alert_id: str) -> None:
        """Take back what was said of an alert, with all that followed from it."""
        self.feedback_store.withdraw(alert_id)
        self.reload_feedback()

    def reload_feedback(self) -> None:
        """Look again at what the store holds, which somebody else may have changed."""
        self._learned = Learned.of(self._calibration, self.feedback_store.all())

    @property
    def stats(self) -> WatchStats:
        """What was counted so far."""
        counts, read, cut = self._counts, self._intake.counts, self._windows.report
        recent, raiser, rate = self._drift.recent, self._raiser, self.rate
        return WatchStats(
            n_lines=read.n_lines,
            n_events=read.n_events,
            n_unmatched=read.n_unmatched,
            n_outside=cut.n_outside,
            n_late=cut.n_late,
            n_unknown=counts["unknown"],
            n_unknown_templates=len(self._unknown),
            unknown_rate=counts["unknown"] / max(read.n_events, 1),
            n_open=self._windows.n_open,
            n_windows=counts["windows"],
            n_evicted=self._windows.n_evicted,
            n_flagged=counts["flagged"],
            n_alerts=raiser.counts["raised"],
            n_folded=raiser.stories.n_folded,
            n_silenced=raiser.counts["silenced"],
            n_drift=raiser.counts["drift"],
            rate=rate.value,
            windows_per_day=rate.per_day,
            expected_per_day=rate.expected,
            quantiles={q: float(np.quantile(recent, q)) for q in QUANTILES} if recent else {},
            drifting=raiser.drifting,
        )

    def state(self) -> dict[str, Any]:
        """Return all that is held, but for feedback, as plain values that JSON can carry."""
        return plain(self.snapshot())

    def snapshot(self) -> dict[str, Any]:
        """Return the same, quickly: its tables are still to be packed, by ``group.plain``.

        The watcher may go on meanwhile: nothing of what was returned changes.
        """
        return {
            "version": STATE_VERSION,
            "model": self.pipeline.fingerprint,
            "config": self.config.model_dump(),
            "intake": self._intake.state(),
            "windows": self._windows.snapshot(),
            "novel": self._novel.state(),
            "drift": self._drift.state(),
            "raiser": self._raiser.state(),
            "pace": self._pace.state(),
            "counts": dict(self._counts),
            "unknown": list(self._unknown.items()),
        }

    @classmethod
    def restore(
        cls,
        pipeline: Pipeline,
        state: Mapping[str, Any],
        *,
        config: WatchConfig | None = None,
        feedback: FeedbackStore | None = None,
        listener: Listener | None = None,
    ) -> Self:
        """Return a watcher that goes on where ``state`` was taken.

        Args:
            pipeline: The same one.
            state: What ``state`` gave.
            config: Other settings than it had; limits of open windows stay as they were.
            feedback: As in the constructor.
            listener: As in the constructor.

        Raises:
            ArtifactError: The state is of another model or version, or damaged.
        """
        try:
            if state["version"] != STATE_VERSION or state["model"] != pipeline.fingerprint:
                raise ArtifactError(
                    "state of a watcher: of another model or another version of oddlog; "
                    "begin anew without it"
                )
            settings = config or WatchConfig.model_validate(state["config"])
            watcher = cls(pipeline, settings, feedback=feedback, listener=listener)
            watcher._load(state)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"state of a watcher: damaged: {error!r}; begin anew without it"
            ) from None
        return watcher

    def _load(self, state: Mapping[str, Any]) -> None:
        self._intake.load(state["intake"])
        self._windows.load(state["windows"])
        self._novel = Novelties.restore(self._novel.config, state["novel"])
        self._drift.load(state["drift"])
        self._raiser.load(state["raiser"], self._novel)
        self._pace = Pace.restore(state["pace"])
        self._counts = Counter(state["counts"])
        self._unknown = Counter(dict(state["unknown"]))


def _growth(pipeline: Pipeline, early: bool) -> Growth | None:
    """Return what chooses open windows to be looked at; None where none is."""
    detector, window = pipeline.detector, pipeline.config.window
    if not early or not detector.causal or reads_text(detector):
        return None
    # a window of lines is named after its first, and short
    whole = window is not None and window.by == "lines"
    return Growth(None if whole else memory_of(detector))


def _latest(windows: Sequences, now: float) -> datetime:
    """Return the latest time of windows' events; when they arrived in a log without times."""
    latest = column(windows.events, "time").max()
    return latest if isinstance(latest, datetime) else _time(now)


def _time(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
