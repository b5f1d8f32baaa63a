"""Whether a log is of the kind that a model knows: where it is not, no verdict says much.

A log of another format has no sessions, or windows full of templates that were never seen. Nothing
may be flagged in it, and that must not be read as nothing being wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oddlog.formats import ReadReport

NEARLY_ALL = 0.9  # a changed system is told of by ``drift``; this is for another one
OTHER = "this is hardly the kind of log that the model was fitted on, and a verdict says little"


@dataclass(frozen=True)
class Familiarity:
    """How much of a log a model can make something of.

    Attributes:
        n_events: Events read.
        n_unmatched: Those whose line the model's format did not match.
        n_windows: Windows judged.
        n_judged: Events in them.
        n_unknown: Those of a template that was not known at fit time.
    """

    n_events: int
    n_unmatched: int
    n_windows: int
    n_judged: int
    n_unknown: int

    @classmethod
    def of(
        cls, reads: Sequence[ReadReport], n_windows: int, n_judged: int, n_unknown: int
    ) -> Familiarity:
        """Return it by what became of the lines of each source."""
        n_events = sum(read.n_events for read in reads)
        return cls(n_events, sum(r.n_unmatched for r in reads), n_windows, n_judged, n_unknown)

    @property
    def warning(self) -> str | None:
        """One line if nearly nothing of the log is known: what, how much of it, what to do."""
        if not self.n_events:
            return None
        if (share := self.n_unmatched / self.n_events) >= NEARLY_ALL:
            return (
                f"{share:.0%} of {self.n_events:,} events do not match the model's format: {OTHER}"
                ". Give --format if it is the same log in another format; else fit a model on it"
            )
        if not self.n_windows:
            return (
                f"none of {self.n_events:,} events is in a window, so nothing was judged: {OTHER}. "
                "Give the log that was meant, or fit a model on this one"
            )
        if self.n_judged and (share := self.n_unknown / self.n_judged) >= NEARLY_ALL:
            return (
                f"{share:.0%} of {self.n_judged:,} events are of templates unknown at fit time: "
                f"{OTHER}. If the system has changed, run `oddlog update`; else fit a model on it"
            )
        return None
