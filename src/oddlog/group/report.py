"""What a cut did, in numbers: nothing is left out of the windows without being counted here."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from oddlog.group.window import Window


@dataclass(frozen=True)
class GroupReport:
    """How many events went where.

    Attributes:
        window: The rule.
        n_events: Events read.
        n_windows: Windows made.
        n_outside: Events in no window: without a session id, or before the first time of their
            source under a window of time.
        n_untimed: Events before the first time of their source, where times decide: in a session
            they neither close a window nor age it.
        n_late: Events older than one before them in their source, where times decide; they count
            as of the same time as that one.
        n_cut: Sessions that were cut into more than one window.
        n_evicted: Windows that a stream closed early to keep to its limits.
        n_forgotten: Closed sessions whose part number a stream no longer knows; a later part of
            one is named and marked as a first one.
    """

    window: Window
    n_events: int
    n_windows: int
    n_outside: int = 0
    n_untimed: int = 0
    n_late: int = 0
    n_cut: int = 0
    n_evicted: int = 0
    n_forgotten: int = 0

    def plus(self, other: GroupReport) -> GroupReport:
        """Return the counts of both together; the other one is of the same rule."""
        counts = {f.name for f in fields(self)} - {"window"}
        added = {name: getattr(self, name) + getattr(other, name) for name in counts}
        return replace(self, **added)

    def summary(self) -> str:
        """Say it in one line, without what did not occur."""
        why = "no session id" if self.window.by == "session" else "no time yet"
        inside = self.n_untimed if self.window.by == "session" else 0
        notes = [
            (self.n_outside, f"events in no window ({why})"),
            (inside, "events before the first time of their source"),
            (self.n_late, "events out of order in time"),
            (self.n_cut, "sessions cut into parts"),
            (self.n_evicted, "windows closed early for memory"),
            (self.n_forgotten, "closed sessions forgotten for memory"),
        ]
        head = f"{self.n_events:,} events in {self.n_windows:,} windows by {self.window}"
        return "; ".join([head, *(f"{count:,} {note}" for count, note in notes if count)])
