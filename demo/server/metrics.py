"""Measurements of one or more engines in Prometheus' text format."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

BUCKETS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
COUNTERS = {
    "steps": "Steps commented on",
    "tokens": "Tokens generated in steps",
    "words": "Words spoken in steps",
    "dropped": "Frames that came too late for the model",
    "answers": "Questions answered",
    "errors": "Streams that ended with an error",
    "opened": "Streams opened",
    "forgotten": "Records that were gone before a slow reader fetched them",
}
GAUGES = {
    "streams": "Streams that are open",
    "load": "Share of the last seconds in which the model worked",
    "lag_p50_s": "Median lag of the latest steps in seconds",
    "lag_p99_s": "99th percentile of the lag of the latest steps in seconds",
    "cache_bytes": "Memory of the KV caches",
    "cache_tokens": "Tokens in the KV caches",
    "waiting_frames": "Frames that wait for the model",
}


@dataclass
class Histogram:
    """Histogram of values by the bounds of BUCKETS_S, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total: float = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect.bisect_left(BUCKETS_S, value)] += 1
        self.total += value

    def as_dict(self) -> dict:
        """Counts and sum, for `prometheus_text`."""
        return {"counts": list(self.counts), "total": self.total}


class Measurements(Collector):
    """Collector of every engine's metrics, by its name: the dicts that Sessions.measurements returns."""

    def __init__(self, engines: dict[str, dict]):
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families."""
        for kinds, family_of in ((COUNTERS, CounterMetricFamily), (GAUGES, GaugeMetricFamily)):
            for name, text in kinds.items():
                exported = f"{name.removesuffix('_s')}_seconds" if name.endswith("_s") else name
                family = family_of(f"livecc_{exported}", text, labels=["engine"])
                for engine, measured in self._engines.items():
                    family.add_metric([engine], measured[name])
                yield family
        frames = CounterMetricFamily("livecc_frames", "Frames that clients sent", labels=["engine", "fate"])
        lags = HistogramMetricFamily("livecc_step_lag_seconds", "From a step's last frame to its words",
                                     labels=["engine"])  # fmt: skip
        for engine, measured in self._engines.items():
            for fate, n in measured["frames"].items():
                frames.add_metric([engine, fate], n)
            lags.add_metric([engine], _cumulated(measured["lags"]["counts"]), measured["lags"]["total"])
        yield from (frames, lags)


def prometheus_text(engines: dict[str, dict]) -> bytes:
    """Text exposition of all engines' metrics."""
    return generate_latest(Measurements(engines))


def _cumulated(counts: list[int]) -> list[tuple[str, float]]:
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    return [(bound, float(sum(counts[: at + 1]))) for at, bound in enumerate(bounds)]
