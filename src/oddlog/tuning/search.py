"""The search: Optuna proposes settings, ``judging`` judges them, a journal keeps what is known.

The sampler is TPE (Bergstra et al., 2011), the default of Optuna. A trial whose network is, at some
tenth of its epochs, among the worst quarter by validation loss is given up; no more than that, as
the loss is not what is chosen by. The journal is a file of JSON lines (``JournalStorage``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from oddlog.config import build
from oddlog.detectors import detector_class
from oddlog.errors import ArtifactError, ConfigError, OddlogError
from oddlog.extras import import_extra
from oddlog.pipeline import PipelineConfig, prepare_fit
from oddlog.run import Run
from oddlog.tuning.judging import Judging
from oddlog.tuning.result import Trial, Tuned, merged
from oddlog.tuning.spaces import Dimension, Range, Space, space_of

logger = logging.getLogger(__name__)
NAME, TENTHS = "oddlog", 10
N_TRIALS, N_REPEATS = 20, 2
KEPT, N_BEFORE_PRUNING, SPARED_TENTHS = 75.0, 5, 2  # per cent of trials; trials; tenths of epochs
Clock = Callable[[], float]


@dataclass(frozen=True)
class Search:
    """How much to search, and where.

    Attributes:
        n_trials: Trials in all, those of a search that is continued included; None for no limit
            but the budget, or ``N_TRIALS`` where there is none.
        budget_s: Seconds by the clock, from when the log has been read. Time to fit best and
            default again is set aside; a trial that goes past the rest is stopped at its next
            epoch. The defaults are fitted whatever they take.
        space: What to search beside or instead of what is declared.
        storage: Journal of the search, or None to keep none.
        resume: Continue the search of the journal.
        n_repeats: Further seeds with which best and default are fitted again.
    """

    n_trials: int | None = None
    budget_s: float | None = None
    space: Space = field(default_factory=dict)
    storage: Path | None = None
    resume: bool = False
    n_repeats: int = N_REPEATS


def tune(
    sources: Sequence[str | Path],
    config: PipelineConfig | None = None,
    *,
    labels: pl.DataFrame | None = None,
    search: Search | None = None,
    run: Run | None = None,
    clock: Clock = time.monotonic,
) -> Tuned:
    """Search a detector's settings on the training and validation parts of a log.

    The log is read, cut and mined once, as ``fit`` does. A trial that fails is reported and ends
    nothing; so does an interruption by hand once the defaults are judged.

    Args:
        sources: Paths of one log; "-" is standard input.
        config: Settings; those given of the detector are not searched unless ``search`` names them.
        labels: Table of session and label.
        search: How much, and where.
        run: Seed, device, progress.
        clock: Tells seconds.

    Raises:
        ArtifactError: A journal that cannot be read.
        ConfigError: Optuna is not installed, settings that do not fit, nothing to search, or a
            journal of another search.
        FormatError: A source that cannot be read as a log.
        LabelsError: Labels of another log, or none where the detector learns from them.
    """
    config, search, run = config or PipelineConfig(), search or Search(), run or Run()
    optuna = import_extra("optuna", "tune", kind="command")
    space = space_of(config.detector, config.settings, search.space)
    _check(search)
    prepared_config, prepared = prepare_fit(sources, config, labels=labels, run=run)
    judging = Judging.of(prepared_config, prepared, run.seed)
    study = _open_study(optuna, search, _identity(config, judging, space, run), run.seed)
    fits = _Fits(judging, prepared_config.settings, run, clock)
    tuned = _searched(optuna, study, fits, space, search)
    notes = list(prepared.report.lines())
    if judging.is_thin:
        notes.append(
            f"only {len(judging.judged):,} validation windows to judge by: scores waver by "
            "hundredths; give more log or a larger valid_share"
        )
    return replace(tuned, base=config, notes=tuple(notes))


@dataclass(frozen=True)
class _Fits:
    """Fits one trial after the other, and times them."""

    judging: Judging
    given: Mapping[str, Any]
    run: Run
    clock: Clock

    def fit(self, settings: Mapping[str, Any], run: Run) -> Trial:
        """Return what became of some settings.

        Raises:
            KeyboardInterrupt: Stopped by hand.
        """
        began, began_cpu = self.clock(), time.process_time()
        score, reason, outcome = None, "", "failed"
        try:
            score = self.judging.score(merged(self.given, settings), run)
            outcome = "judged"
        except _GivenUp as given_up:
            reason, outcome = given_up.args
        except OddlogError as error:
            reason = str(error)
        except Exception as error:  # one trial's failure must not end the search; it is reported
            logger.debug("a trial failed", exc_info=True)
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        cpu_s, wall_s = time.process_time() - began_cpu, self.clock() - began
        return Trial(dict(settings), run.seed, outcome, score, reason, cpu_s, wall_s)

    def again(self, trial: Trial, seed: int) -> Trial:
        """Fit with another seed."""
        return self.fit(trial.settings, replace(self.run, seed=seed))


class _GivenUp(Exception):  # noqa: N818 -- an outcome, not an error
    """Raised between two epochs of a trial, with reason and outcome."""


@dataclass
class _Watch:
    """Follows the epochs of a trial's first stage, tenth by tenth.

    Losses of different stages are not comparable, and trials have different numbers of epochs.
    """

    trial: Any
    deadline: float
    clock: Clock
    stage: str = ""
    best: float = math.inf
    losses: dict[int, float] = field(default_factory=dict)

    def __call__(self, stage: str, done: int, most: int, loss: float) -> None:
        if self.clock() > self.deadline:
            raise _GivenUp("the budget was spent", "stopped")
        self.stage = self.stage or stage
        tenth = TENTHS * done // most
        self.best = min(self.best, loss)
        if stage != self.stage or tenth in self.losses:
            return
        self.losses[tenth] = self.best
        if self.trial is not None:
            self.trial.report(-self.best, tenth)
            if self.trial.should_prune():
                raise _GivenUp(f"validation loss {self.best:.4g} after {tenth} tenths", "pruned")


def _searched(
    optuna: Any, study: Any, fits: _Fits, space: Mapping[str, Dimension], search: Search
) -> Tuned:
    """Fit the defaults, then trial by trial, then best and defaults again."""
    end = fits.clock() + (search.budget_s or math.inf)
    default = _fit_default(optuna, study, fits, space)
    interrupted = False
    try:
        while _goes_on(study, search, default, end - fits.clock()):
            _one_trial(optuna, study, fits, space, (search, default, end))
    except KeyboardInterrupt:
        interrupted = True
    trials = _told(study)
    best = max((t for t in [default, *trials] if t.score is not None), key=lambda t: t.score or 0)
    repeats: list[tuple[Trial, Trial]] = []
    try:
        if not interrupted and best is not default:
            seeds = range(fits.run.seed + 1, fits.run.seed + 1 + search.n_repeats)
            repeats.extend((fits.again(best, seed), fits.again(default, seed)) for seed in seeds)
    except KeyboardInterrupt:
        interrupted = True
    return Tuned(
        base=PipelineConfig(),
        measure=fits.judging.measure,
        trials=tuple(trials),
        default=default,
        best=best,
        repeats=tuple(repeats),
        interrupted=interrupted,
    )


def _fit_default(optuna: Any, study: Any, fits: _Fits, space: Mapping[str, Dimension]) -> Trial:
    """Judge the given settings alone, or take them from the journal; tell the sampler of them.

    Raises:
        ConfigError: They cannot be fitted, so that there is nothing to compare with.
    """
    if "default" in study.user_attrs:
        return Trial(**study.user_attrs["default"])
    watch = _Watch(None, math.inf, fits.clock)
    default = fits.fit({}, replace(fits.run, epoch=watch))
    if default.score is None:
        raise ConfigError(f"tune: the given settings cannot be fitted: {default.reason}")
    study.set_user_attr("default", asdict(default))
    cls = detector_class(fits.judging.detector)
    own = build(cls.Config, fits.given, fits.judging.detector).model_dump()
    values = {name: _look_up(own, name) for name in space}
    if all(space[name].holds(value) for name, value in values.items()):
        study.add_trial(
            optuna.trial.create_trial(
                params=values,
                distributions={name: _distribution(optuna, found) for name, found in space.items()},
                value=default.score,
                intermediate_values={tenth: -loss for tenth, loss in watch.losses.items()},
            )
        )
    return default


def _one_trial(
    optuna: Any,
    study: Any,
    fits: _Fits,
    space: Mapping[str, Dimension],
    limits: tuple[Search, Trial, float],
) -> None:
    """Ask for settings, fit them, and tell what came of it."""
    search, default, end = limits
    n_done = len(_told(study))
    fits.run.progress("trials", n_done, search.n_trials or 0)
    trial = study.ask({name: _distribution(optuna, found) for name, found in space.items()})
    watch = _Watch(trial, end - _set_aside(search, default), fits.clock)
    states = optuna.trial.TrialState
    try:
        found = fits.fit(trial.params, replace(fits.run, epoch=watch))
    except KeyboardInterrupt:
        study.tell(trial, state=states.FAIL)
        raise
    trial.set_user_attr("told", asdict(found))
    if found.score is not None:
        study.tell(trial, found.score)
    else:
        pruned = found.outcome == "pruned"
        study.tell(trial, state=states.PRUNED if pruned else states.FAIL)
    fits.run.progress("trials", n_done + 1, search.n_trials or 0)


def _goes_on(study: Any, search: Search, default: Trial, left_s: float) -> bool:
    """Return whether there is room for another trial."""
    most = search.n_trials or (N_TRIALS if search.budget_s is None else math.inf)
    return len(_told(study)) < most and left_s > _set_aside(search, default)


def _set_aside(search: Search, default: Trial) -> float:
    """Return the seconds that fitting best and default again may take."""
    return 2 * search.n_repeats * default.wall_s if search.budget_s is not None else 0.0


def _told(study: Any) -> list[Trial]:
    """Return the trials that came to an end, in order."""
    return [Trial(**t.user_attrs["told"]) for t in study.trials if "told" in t.user_attrs]


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    kinds = optuna.distributions
    if not isinstance(dimension, Range):
        return kinds.CategoricalDistribution(dimension.values)
    kind = kinds.IntDistribution if dimension.whole else kinds.FloatDistribution
    return kind(dimension.low, dimension.high, log=dimension.by_logarithm)


def _look_up(settings: Mapping[str, Any], name: str) -> Any:
    group, _, rest = name.partition(".")
    return _look_up(settings[group], rest) if rest else settings[group]


def _open_study(optuna: Any, search: Search, identity: str, seed: int) -> Any:
    """Begin a search, or continue the journal's.

    Raises:
        ArtifactError: The journal is damaged.
        ConfigError: The journal is of another search.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journals = optuna.storages.journal
    path, storage = search.storage, None
    try:
        if path is not None:
            storage = journals.JournalStorage(journals.JournalFileBackend(str(path)))
        study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.PercentilePruner(KEPT, N_BEFORE_PRUNING, SPARED_TENTHS),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: not the journal of a search: {type(error).__name__}; name another file"
        ) from None
    # A search that is continued must not draw again what it drew at first.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    if study.user_attrs.setdefault("identity", identity) != identity:
        raise ConfigError(
            f"{search.storage}: the journal of another log, seed or space: name another file"
        )
    study.set_user_attr("identity", identity)
    return study


def _identity(
    config: PipelineConfig, judging: Judging, space: Mapping[str, Dimension], run: Run
) -> str:
    """Name what trials have to share to be compared."""
    given = config.model_dump(mode="json", include={"detector", "settings"})
    drawn = {name: repr(dimension) for name, dimension in space.items()}
    text = json.dumps([given, drawn, run.seed, judging.digest()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check(search: Search) -> None:
    """Refuse a search that cannot be.

    Raises:
        ConfigError: Numbers out of range, or a journal that is there, or is not.
    """
    if (search.n_trials or 1) < 1 or (search.budget_s or 1) <= 0 or search.n_repeats < 0:
        raise ConfigError("tune: trials, budget and repeats cannot be negative or nothing")
    if search.resume and search.storage is None:
        raise ConfigError("tune: --resume needs the journal of a search: name it with --storage")
    if search.storage is None:
        return
    if search.resume and not search.storage.exists():
        raise ConfigError(f"{search.storage}: no such journal; leave --resume out to begin one")
    if search.storage.exists() and not search.resume:
        raise ConfigError(f"{search.storage}: holds a search; --resume continues it")
