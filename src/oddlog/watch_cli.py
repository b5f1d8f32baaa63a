"""The commands ``oddlog watch`` and ``oddlog feedback``: their options, and what they show.

Nothing but typer is imported here at the top; see ``cli``.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from oddlog.options import Device, ModelFolder, Settings, Unfamiliar, consoles

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from oddlog.alerts import AlertingConfig
    from oddlog.findings import Alert
    from oddlog.follow import Follower, Pipe
    from oddlog.journald import Journal
    from oddlog.watch import WatchConfig, Watcher, WatchStats
    from oddlog.watch.running import Keeper

STATUS_S = 1.0
ENOUGH_EVENTS = 100  # to tell while a watch runs that its log is hardly known
StateFolder = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="Where to go on after a restart.")
]


def watch(
    model: ModelFolder,
    logs: Annotated[
        list[str] | None, typer.Argument(metavar="FILE", help="Files to follow; - reads stdin.")
    ] = None,
    journald: Annotated[
        bool, typer.Option("--journald", help="Follow systemd's journal, through journalctl.")
    ] = False,
    alerts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append alerts here, as JSON lines.")
    ] = None,
    webhook: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Post alerts there; repeat.")
    ] = None,
    slack: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Post a text there; repeat.")
    ] = None,
    alertmanager: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Alertmanager's base; repeat.")
    ] = None,
    alerting: Annotated[
        Path | None,
        typer.Option(metavar="TOML", help="More of that: mail, tokens, retries."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="N/day", help="False alarms to expect, such as 20/day.")
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Another rate than the model was fitted for."),
    ] = None,
    state: StateFolder = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Read what is there already.")
    ] = False,
    set: Settings = None,
    device: Device = "auto",
) -> None:
    """Watch a log as it is written, and raise alerts.

    A terminal gets text, a pipe JSON lines.
    """
    import oddlog
    from oddlog import terminal
    from oddlog.alerts import Outlets
    from oddlog.watch.running import Clock, Keeper, run

    notes, console = consoles()
    config = _config(set, budget, false_alarm_rate)
    urls = {"generic": webhook, "slack": slack, "alertmanager": alertmanager}
    outlets = Outlets(_alerting(alerting, alerts, urls), time.time)
    keeper = None if state is None else Keeper(state)
    saved = None if keeper is None else keeper.load()
    feed = _feed(logs or [], journald, from_start, None if saved is None else saved["feed"])
    pipeline = oddlog.load(model, device)
    pipeline.check_can_flag(config.false_alarm_rate)
    watcher = _watcher(pipeline, config, keeper, saved)
    if saved is not None:
        outlets.load(saved["outlets"])
    terminal.show_notes(notes, _begins(logs or [], from_start, goes_on=saved is not None))
    try:
        with _stopped() as stop, _shown(console, notes) as shown:
            run(watcher, feed, outlets, shown, Clock(time.time, stop.wait), keeper=keeper)
    finally:
        feed.close()
        outlets.close()
    terminal.show_notes(notes, [_summary(watcher), *outlets.errors])
    if feed.ended and (warning := watcher.stats.familiarity.warning):
        if not shown.strange.told:
            terminal.show_warning(notes, warning)
        raise Unfamiliar


def feedback(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="The alert's id.")],
    verdict: Annotated[
        Literal["real", "false_alarm", "snooze", "withdraw"], typer.Argument(metavar="VERDICT")
    ],
    state: Annotated[Path, typer.Option("--state", metavar="DIR", help="That of the watch.")],
    hours: Annotated[float | None, typer.Option(metavar="N", help="How long to snooze.")] = None,
) -> None:
    """Say of an alert: real, false_alarm, snooze; or take it back.

    A false alarm is not raised again, and moves the calibration.
    """
    from datetime import UTC, datetime, timedelta

    from oddlog.watch.running import Keeper

    keeper, now = Keeper(state), datetime.now(tz=UTC)
    if verdict == "withdraw":
        keeper.feedback.withdraw(alert)
        return
    until = None if hours is None else now + timedelta(hours=hours)
    keeper.say(alert, verdict, {"given": now, "until": until})


def _config(
    assignments: list[str] | None, budget: str | None, false_alarm_rate: float | None
) -> WatchConfig:
    from oddlog.alerts import parse_budget
    from oddlog.config import build, parse_assignments
    from oddlog.watch import WatchConfig

    values = parse_assignments(assignments or [])
    if budget is not None:
        values["budget"] = parse_budget(budget)
    if false_alarm_rate is not None:
        values["false_alarm_rate"] = false_alarm_rate
    return build(WatchConfig, values, "watch")


def _alerting(
    file: Path | None, alerts: Path | None, urls: dict[str, list[str] | None]
) -> AlertingConfig:
    from oddlog.alerts import AlertingConfig
    from oddlog.config import build, read_toml

    values: dict[str, Any] = read_toml(file) if file else {}
    if alerts is not None:
        values["file"] = alerts
    webhooks = list(values.get("webhook", []))
    webhooks += [{"url": url, "style": style} for style, own in urls.items() for url in own or ()]
    return build(AlertingConfig, values | {"webhook": webhooks}, str(file or "alerting"))


def _feed(
    logs: list[str], journald: bool, from_start: bool, state: dict[str, Any] | None
) -> Follower | Journal | Pipe:
    from oddlog.errors import ConfigError
    from oddlog.follow import Follower, Pipe
    from oddlog.journald import Journal

    if bool(logs) == journald or ("-" in logs and len(logs) > 1):
        raise ConfigError("watch: name files to follow, or -, or --journald: one of them")
    if journald:
        return Journal(from_start=from_start, state=state)
    if logs == ["-"]:
        return Pipe(sys.stdin.buffer, "-")
    return Follower(logs, from_start=from_start, state=state)


def _begins(logs: list[str], from_start: bool, *, goes_on: bool) -> list[str]:
    """Say what is watched from where: nothing may happen for long, and that is to be told apart."""
    if logs == ["-"]:
        return []
    place = "its end; --from-start reads what is there already"
    if goes_on:
        place = "where the watch before it stood"
    elif from_start:
        place = "its start"
    absent = [name for name in logs if not Path(name).exists()]
    told = f"watching {', '.join(logs) or 'the journal'}, from {place}"
    return [told, *(f"{name}: not there yet; it is read once it is" for name in absent)]


def _watcher(
    pipeline: Any, config: WatchConfig, keeper: Keeper | None, saved: dict[str, Any] | None
) -> Watcher:
    from oddlog.watch import Watcher

    store = None if keeper is None else keeper.feedback
    if saved is None:
        return Watcher(pipeline, config, feedback=store)
    return Watcher.restore(pipeline, saved["watcher"], config=config, feedback=store)


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """Yield an event that an interrupt or a request to end sets; a second one ends at once."""
    stop = threading.Event()
    before = {}

    def end(number: int, _: object) -> None:
        signal.signal(number, before[number])
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, end)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Strange:
    """Says once that a log is hardly known: there nothing being raised says nothing."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.told = False

    def tell(self, stats: WatchStats) -> None:
        from oddlog.terminal import show_warning

        if self.told or stats.n_events < ENOUGH_EVENTS:
            return
        if warning := stats.familiarity.warning:
            show_warning(self._console, warning)
            self.told = True


class _Terminal:
    """Alerts as text, above a line that says how things stand."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live
        self.strange = _Strange(console)
        self._last: tuple[float, int] | None = None

    def alerts(self, begun: list[Alert]) -> None:
        from oddlog.terminal import show_alert

        for alert in begun:
            show_alert(self._console, alert)

    def status(self, stats: WatchStats, now: float) -> None:
        from oddlog.terminal import status_line

        self.strange.tell(stats)
        if self._last is None:
            self._last = now, stats.n_lines
        since, n_lines = self._last
        if now - since < STATUS_S:
            return
        self._last = now, stats.n_lines
        rate = (stats.n_lines - n_lines) / (now - since)
        self._live.update(status_line(stats, rate, self._console.width), refresh=True)


class _Lines:
    """Alerts as JSON lines."""

    def __init__(self, notes: Console) -> None:
        self.strange = _Strange(notes)

    def alerts(self, begun: list[Alert]) -> None:
        from oddlog.alerts.telling import as_ecs, as_json
        from oddlog.artifact import writing

        with writing("standard output"):
            for alert in begun:
                sys.stdout.write(f"{as_json(as_ecs(alert))}\n")
            sys.stdout.flush()

    def status(self, stats: WatchStats, now: float) -> None:
        self.strange.tell(stats)


@contextmanager
def _shown(console: Console, notes: Console) -> Iterator[_Terminal | _Lines]:
    if not console.is_terminal:
        yield _Lines(notes)
        return
    from rich.live import Live

    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield _Terminal(console, live)


def _summary(watcher: Watcher) -> str:
    stats = watcher.stats
    told = f"{stats.n_lines:,} lines, {stats.n_windows:,} windows judged, {stats.n_alerts:,} alerts"
    told += f"; {stats.n_folded:,} more flags counted on them" if stats.n_folded else ""
    told += f"; {stats.n_open:,} windows still open" if stats.n_open else ""
    return told + (f"; {stats.n_evicted:,} closed for want of memory" if stats.n_evicted else "")
