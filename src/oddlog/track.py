"""Runs told to an experiment tracker, where one is asked for: settings, figures, where files are.

Nothing of a log's content is told: no message, no template, no name of a session or of a log file.
What is told goes where the tracker's own environment says (``MLFLOW_TRACKING_URI``,
``TRACKIO_DIR``), by default into a folder on this machine.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from oddlog.errors import ConfigError
from oddlog.extras import import_extra
from oddlog.run import Epochs

logger = logging.getLogger(__name__)
PROJECT = "oddlog"
LONGEST = 500  # characters of a value; trackers refuse long ones


class Tracker(Protocol):
    """What a run is told to."""

    def settings(self, values: Mapping[str, Any]) -> None:
        """Tell settings; groups in groups get names with dots."""
        ...

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Tell figures, of one step of a series or of the whole run."""
        ...

    def artifact(self, name: str, path: Path) -> None:
        """Tell where a file or a folder was written; it is not copied."""
        ...

    def close(self, *, failed: bool) -> None:
        """End the run."""
        ...


@contextmanager
def track(to: str | None, name: str) -> Iterator[Tracker]:
    """Yield a tracker for one run, and end it; one that hears nothing where ``to`` is None.

    A tracker that fails later than at its beginning is warned of once and told no more: it must not
    cost a fit.

    Args:
        to: One of ``TRACKERS``.
        name: Of the run.

    Raises:
        ConfigError: No such tracker, not installed, or it cannot begin a run.
    """
    tracker = _Guarded(_begin(to, name), to or "")
    try:
        yield tracker
    except BaseException:
        tracker.close(failed=True)
        raise
    tracker.close(failed=False)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str | float]:
    """Return values without groups, each a number or a text of no more than ``LONGEST`` characters.

    Example:
        >>> flat({"n": 4, "ppo": {"kl": 0.1, "on": True}})
        {'n': 4, 'ppo.kl': 0.1, 'ppo.on': 'True'}
    """
    found: dict[str, str | float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[prefix + name] = value
        else:
            found[prefix + name] = str(value)[:LONGEST]
    return found


def told_of_epochs(tracker: Tracker) -> Epochs:
    """Return what tells a tracker each epoch's validation loss, for ``Run.epoch``."""

    def tell(stage: str, done: int, most: int, loss: float) -> None:
        tracker.metrics({f"{stage}.valid_loss": loss}, step=done)

    return tell


class _Deaf:
    """Hears nothing."""

    def settings(self, values: Mapping[str, Any]) -> None:
        pass

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        pass

    def artifact(self, name: str, path: Path) -> None:
        pass

    def close(self, *, failed: bool) -> None:
        pass


class _MLflow:
    """Tells an MLflow server, or a folder."""

    def __init__(self, name: str) -> None:
        self._mlflow = import_extra("mlflow", "mlflow", kind="tracker")
        self._mlflow.set_experiment(PROJECT)
        self._id = self._mlflow.start_run(run_name=name).info.run_id

    def settings(self, values: Mapping[str, Any]) -> None:
        self._mlflow.log_params(flat(values))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        # by its id: in a thread of its own MLflow would begin another run
        self._mlflow.log_metrics(dict(values), step=step, run_id=self._id)

    def artifact(self, name: str, path: Path) -> None:
        self._mlflow.set_tag(f"artifact.{name}", str(path))

    def close(self, *, failed: bool) -> None:
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


class _Trackio:
    """Tells trackio, which prints what it does; a command's output is for its results."""

    def __init__(self, name: str) -> None:
        self._trackio = import_extra("trackio", "trackio", kind="tracker")
        how = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        with redirect_stdout(io.StringIO()):
            self._run = self._trackio.init(project=PROJECT, name=name, **how)
        self._is_told = False

    def settings(self, values: Mapping[str, Any]) -> None:
        if self._is_told:  # a run's configuration goes with its first record
            self._run.log(flat(values))
        else:
            self._run.config.update(flat(values))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self._is_told = True
        self._run.log(dict(values), step=step)

    def artifact(self, name: str, path: Path) -> None:
        self._is_told = True
        self._run.log({f"artifact.{name}": str(path)})

    def close(self, *, failed: bool) -> None:
        self._run.log({"status": "failed" if failed else "finished"})
        with redirect_stdout(io.StringIO()):
            self._trackio.finish()


TRACKERS: Mapping[str, Callable[[str], Tracker]] = {"mlflow": _MLflow, "trackio": _Trackio}


class _Guarded:
    """Keeps a tracker's failure from ending what it is told of."""

    def __init__(self, inner: Tracker, name: str) -> None:
        self._inner, self._name = inner, name

    def settings(self, values: Mapping[str, Any]) -> None:
        self._tell(lambda: self._inner.settings(values))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self._tell(lambda: self._inner.metrics(values, step))

    def artifact(self, name: str, path: Path) -> None:
        self._tell(lambda: self._inner.artifact(name, path))

    def close(self, *, failed: bool) -> None:
        self._tell(lambda: self._inner.close(failed=failed))

    def _tell(self, event: Callable[[], None]) -> None:
        try:
            event()
        except Exception as error:  # whatever another's service raises
            logger.warning(
                "%s was told no more of this run: %s; the run goes on",
                self._name,
                type(error).__name__,
                exc_info=logger.isEnabledFor(logging.DEBUG),
            )
            self._inner = _Deaf()


def _begin(to: str | None, name: str) -> Tracker:
    """Return a tracker that has begun a run.

    Raises:
        ConfigError: No such tracker, not installed, or it cannot begin.
    """
    if to is None:
        return _Deaf()
    if to not in TRACKERS:
        raise ConfigError(f"--track {to}: no such tracker; there are: {', '.join(TRACKERS)}")
    try:
        return TRACKERS[to](name)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 -- whatever another's service raises
        raise ConfigError(f"--track {to}: cannot begin a run: {error}") from None
