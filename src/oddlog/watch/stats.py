"""What a watcher counts, for a status line and for metrics."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from oddlog.pipeline.foreign import Familiarity

QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class WatchStats:
    """Counts since the beginning, those before a restart included.

    Attributes:
        n_lines: Lines parsed.
        n_events: Events made of them.
        n_unmatched: Lines that the format did not match.
        n_outside: Events that belong to no window.
        n_late: Events out of order in their source.
        n_unknown: Events of a template that was not known at fit time.
        n_unknown_templates: Such templates.
        unknown_rate: Share of the events of such a template.
        n_open: Sessions, or places, that have a window open.
        n_windows: Windows judged; one that was judged and went on counts each time.
        n_evicted: Windows closed early to keep to the limits of memory.
        n_flagged: Windows whose p-value was at most the rate in force.
        n_alerts: Alerts raised.
        n_folded: Flagged windows that were counted on an alert raised before.
        n_silenced: Flagged windows that were not raised, as their signature is silenced.
        n_drift: Flagged windows that were counted on a drift alert.
        rate: The false-alarm rate in force.
        windows_per_day: As they come now; None before the first.
        expected_per_day: Alerts a day to be expected of normal windows at that rate.
        quantiles: Of the scores of the last windows, by ``QUANTILES``; empty before the first.
        drifting: Whether the log no longer looks like the calibration's.
    """

    n_lines: int
    n_events: int
    n_unmatched: int
    n_outside: int
    n_late: int
    n_unknown: int
    n_unknown_templates: int
    unknown_rate: float
    n_open: int
    n_windows: int
    n_evicted: int
    n_flagged: int
    n_alerts: int
    n_folded: int
    n_silenced: int
    n_drift: int
    rate: float
    windows_per_day: float | None
    expected_per_day: float | None
    quantiles: dict[float, float]
    drifting: bool

    @property
    def familiarity(self) -> Familiarity:
        """How much of what was read the model can make something of."""
        n_windows = self.n_windows + self.n_open
        return Familiarity(
            self.n_events, self.n_unmatched, n_windows, self.n_events, self.n_unknown
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self) | {"quantiles": {str(q): s for q, s in self.quantiles.items()}}
