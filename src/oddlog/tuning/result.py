"""What a search found: every trial, the best beside the defaults, and what all of it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from oddlog.config import to_toml
from oddlog.pipeline import PipelineConfig

Outcome = Literal["judged", "pruned", "failed", "stopped"]
DEFAULTS, BETTER, NOISE, UNKNOWN = ("defaults", "better", "noise", "not repeated")


@dataclass(frozen=True)
class Trial:
    """One fit.

    Attributes:
        settings: What was tried, by setting; empty for the defaults.
        seed: Of fit and score.
        outcome: Judged; pruned, as its validation loss was among the worst; failed; or stopped.
        score: What it is judged by, 0 to 1, or None.
        reason: Why it was not judged.
        cpu_s: Processor seconds of it.
        wall_s: Seconds by the clock.
    """

    settings: Mapping[str, Any]
    seed: int
    outcome: Outcome
    score: float | None
    reason: str
    cpu_s: float
    wall_s: float

    def figures(self) -> dict[str, float]:
        """Return what of it is a number: times, the score if there is one, settings."""
        score = {} if self.score is None else {"score": self.score}
        tried = {f"tried.{name}": value for name, value in self.settings.items()}
        numbers = {n: v for n, v in tried.items() if isinstance(v, (int, float))}
        return {**score, "cpu_s": self.cpu_s, "wall_s": self.wall_s, **numbers}


@dataclass(frozen=True, eq=False)
class Tuned:
    """A search's result.

    The best of many trials owes part of its score to luck. So it is fitted again with other seeds,
    beside the defaults, and only those fits are compared.

    Attributes:
        base: The settings that were given; those of the detector are what trials change.
        measure: What scores are, in words.
        trials: All of them, in order.
        default: The fit with the given settings alone.
        best: The trial of the highest score, or the default.
        repeats: Best and default with further seeds, in pairs.
        notes: What was done to the log, and what else to know, one line each.
        interrupted: Whether it was stopped by hand.
    """

    base: PipelineConfig
    measure: str
    trials: tuple[Trial, ...]
    default: Trial
    best: Trial
    repeats: tuple[tuple[Trial, Trial], ...]
    notes: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def verdict(self) -> str:
        """How the best compares with the defaults, where both were fitted again.

        ``DEFAULTS``: it is no better on other seeds, or nothing was better at first. ``BETTER``:
        its worst fit is better than every one of the defaults. ``NOISE``: better on average, but
        not by more than seeds differ. ``UNKNOWN``: not fitted again.
        """
        if self.best is self.default:
            return DEFAULTS
        if not self.repeats:
            return UNKNOWN
        best, default = (list(_scores(pair[side] for pair in self.repeats)) for side in (0, 1))
        if not best or not default or fmean(best) <= fmean(default):
            return DEFAULTS
        return BETTER if min(best) > max([*default, *_scores([self.default])]) else NOISE

    @property
    def config(self) -> PipelineConfig:
        """The settings to fit with: the best, or those given where it is no better."""
        chosen = {} if self.verdict == DEFAULTS else self.best.settings
        settings = merged(self.base.settings, chosen)
        return self.base.model_copy(update={"settings": settings})

    def to_toml(self) -> str:
        """Return a file for ``fit --config``, with what was found as comments."""
        config = self.config
        values = config.model_dump(mode="json", exclude_unset=True, exclude={"settings", "window"})
        values["detector"] = config.detector
        if config.window is not None:
            values["window"] = str(config.window)
        if config.settings:
            values[config.detector] = config.settings
        told = "".join(f"# {line}\n" for line in self.found())
        return told + to_toml(values)

    def found(self) -> list[str]:
        """Say what was found and what it cost, one line each."""
        counts = Counter(trial.outcome for trial in self.trials)
        outcomes = ", ".join(f"{n} {outcome}" for outcome, n in counts.items()) or "none"
        cpu, wall = (sum(getattr(t, name) for t in self._fits()) for name in ("cpu_s", "wall_s"))
        told = [
            f"tuned {self.base.detector} by {self.measure}",
            f"{len(self.trials)} trials ({outcomes}); with the defaults and {len(self.repeats)} "
            f"further seeds of both: {cpu:,.1f} s of processor time, {wall:,.1f} s by the clock",
            f"defaults: {_told(self.default, [pair[1] for pair in self.repeats])}",
        ]
        if self.best is not self.default:
            told.append(f"best: {_told(self.best, [pair[0] for pair in self.repeats])}")
        told.append(_VERDICTS[self.verdict])
        return told

    def lines(self) -> list[str]:
        """Say what a person should know of it, one line each."""
        reasons = Counter(t.reason for t in self.trials if t.outcome in ("failed", "stopped"))
        return [
            *self.notes,
            *(f"{n} not judged: {reason}" for reason, n in reasons.items()),
            *self.found(),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, ready for JSON."""
        return {
            "detector": self.base.detector,
            "measure": self.measure,
            "verdict": self.verdict,
            "settings": dict(self.config.settings),
            "default": asdict(self.default),
            "best": asdict(self.best),
            "repeats": [[asdict(trial) for trial in pair] for pair in self.repeats],
            "trials": [asdict(trial) for trial in self.trials],
            "cpu_s": sum(trial.cpu_s for trial in self._fits()),
            "wall_s": sum(trial.wall_s for trial in self._fits()),
            "interrupted": self.interrupted,
        }

    def _fits(self) -> Iterable[Trial]:
        return [self.default, *self.trials, *(trial for pair in self.repeats for trial in pair)]


_VERDICTS = {
    DEFAULTS: "no settings were better than the defaults where both were fitted again: those stand",
    BETTER: "better than the defaults on every seed",
    NOISE: "better than the defaults on average, but no more than seeds differ: expect little",
    UNKNOWN: "not fitted again with other seeds: part of what is won may be luck",
}


def merged(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with some replaced; a name with dots is one of a group.

    Example:
        >>> merged({"ppo": {"kl": 0.1}}, {"ppo.clip": 0.2, "width": 32})
        {'ppo': {'kl': 0.1, 'clip': 0.2}, 'width': 32}
    """
    found = dict(settings)
    for name, value in chosen.items():
        group, _, rest = name.partition(".")
        found[group] = merged(found.get(group, {}), {rest: value}) if rest else value
    return found


def _scores(trials: Iterable[Trial]) -> Iterable[float]:
    return (trial.score for trial in trials if trial.score is not None)


def _told(trial: Trial, again: Iterable[Trial]) -> str:
    """Say settings and scores of one seed and of further ones."""
    first = "not judged" if trial.score is None else f"{trial.score:.4f} (seed {trial.seed})"
    further = [f"{t.score:.4f} (seed {t.seed})" for t in again if t.score is not None]
    named = ", ".join(f"{name} = {value}" for name, value in trial.settings.items())
    return ", ".join([first, *further]) + (f" with {named}" if named else "")
