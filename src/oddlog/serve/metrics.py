"""What Prometheus is told: counts of the watcher, the queue, refusals, and how long lines wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from oddlog.serve.service import Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
COUNTERS = {
    "lines": ("n_lines", "Lines judged."),
    "events": ("n_events", "Events made of them."),
    "unknown_template_events": ("n_unknown", "Events of a template not known at fit time."),
    "windows": ("n_windows", "Windows scored."),
    "evicted_windows": ("n_evicted", "Windows closed early to keep to the limits of memory."),
    "flagged_windows": ("n_flagged", "Windows whose p-value was at most the rate."),
    "alerts": ("n_alerts", "Alerts raised."),
    "folded_alerts": ("n_folded", "Flagged windows counted on an alert raised before."),
    "silenced_alerts": ("n_silenced", "Flagged windows whose signature is silenced."),
}
GAUGES = {
    "unknown_templates": ("n_unknown_templates", "Templates not known at fit time."),
    "unknown_template_rate": ("unknown_rate", "Share of the events of such a template."),
    "open_windows": ("n_open", "Sessions, or places, that have a window open."),
    "false_alarm_rate": ("rate", "The false-alarm rate in force."),
    "drifting": ("drifting", "1 where the log no longer looks like the calibration's."),
}


class Metrics:
    """The registry of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.latency = Histogram(
            "oddlog_latency_seconds",
            "From the arrival of a line until the alerts that it gave rise to are stored.",
            buckets=BUCKETS,
            registry=self._registry,
        )
        self.refused = Counter(
            "oddlog_refused_requests",
            "Requests whose lines were not taken.",
            ["status"],
            registry=self._registry,
        )
        self.accepted = Counter(
            "oddlog_accepted_lines", "Lines taken.", ["by"], registry=self._registry
        )
        self.cut = Counter(
            "oddlog_cut_lines", "Lines longer than the limit.", registry=self._registry
        )

    def took(self, seconds: float, n_lines: int) -> None:
        """Note how long lines waited for their verdict; one observation for all of them."""
        self.latency.observe(max(seconds, 0.0))

    def watch(self, service: Service) -> None:
        """Tell of a service, too."""
        self._registry.register(_Counts(service))

    def text(self) -> bytes:
        """Return all of it in Prometheus's text format."""
        return generate_latest(self._registry)


class _Counts(Collector):
    """What the service counts, read when it is asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        stats, service = self._service.worker.stats, self._service
        for name, (field, told) in COUNTERS.items():
            yield CounterMetricFamily(f"oddlog_{name}", told, getattr(stats, field))
        for name, (field, told) in GAUGES.items():
            yield GaugeMetricFamily(f"oddlog_{name}", told, float(getattr(stats, field)))
        scores = GaugeMetricFamily(
            "oddlog_score_quantile", "Of the scores of the last windows.", labels=["quantile"]
        )
        for quantile, score in stats.quantiles.items():
            scores.add_metric([str(quantile)], score)
        yield scores
        yield GaugeMetricFamily(
            "oddlog_queued_lines", "Lines taken and not yet judged.", service.inbox.n_lines
        )
        yield GaugeMetricFamily(
            "oddlog_queued_bytes", "Bytes of them in memory.", service.inbox.n_bytes
        )
        yield GaugeMetricFamily(
            "oddlog_journal_bytes", "Bytes of the journal on disk.", service.journal.n_bytes
        )
        yield GaugeMetricFamily(
            "oddlog_ready", "1 where lines may be sent.", float(service.unready() is None)
        )

    def describe(self) -> list[Metric]:
        return []
