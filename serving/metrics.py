"""What a server counts, for Prometheus. docs/serving-operations.md lists it.

Names in labels come from the configuration and the protocol, never from a request, so that no
client can make their number grow.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .protocol import REASONS, STREAM_PATH

#: How a stream can end, besides the codes of `REASONS`.
ENDS = {"end", "gone", "expired"} | set(REASONS)
PATHS = {
    *("/", "/healthz", "/readyz", "/metrics", STREAM_PATH),
    *("/v1/encode", "/v1/decode", "/v1/transcode", "/v1/codecs", "/v1/sessions"),
}
#: Seconds; 20 ms is the bound that capacity is measured by.
_LATENESS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
_REQUESTS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0)


class _Buckets(Collector):
    """A histogram that is filled for each message: prometheus-client's takes a lock for that.

    Only the event loop adds to it.
    """

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        self._name, self._text, self._bounds = f"syllabary_{name}", text, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[Metric]:
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets, self._sum)


class _Payloads(Collector):
    """Counters of bytes and audio in one direction; likewise."""

    def __init__(self, way: str) -> None:
        self._way, self._bytes, self._seconds = way, 0, 0.0

    def add(self, bytes_: int, audio_seconds: float) -> None:
        self._bytes += bytes_
        self._seconds += audio_seconds

    def collect(self) -> Iterator[Metric]:
        name, way = f"syllabary_{self._way}", self._way
        yield CounterMetricFamily(f"{name}_bytes", f"Payload {way}.", self._bytes)
        text = f"Audio {way}, as samples or codes."
        yield CounterMetricFamily(f"{name}_audio_seconds", text, self._seconds)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        from .. import __version__

        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("syllabary", "Version of the package.", registry=self.registry).info(
            {"version": __version__}
        )
        stream = ("task", "codec")
        self._sessions = self._gauge("sessions", "Streams that are open or parked.", stream)
        self._opened = self._counter("sessions_opened", "Streams opened.", stream)
        self._closed = self._counter("sessions_closed", "Streams ended.", (*stream, "why"))
        self._refused = self._counter("refusals", "Requests refused, by code.", ("code",))
        for code in REASONS:  # all of them are there from the start, so that a rate has a first 0
            self._refused.labels(code)
        self._places = self._gauge("places", "Streams that the workers have room for.")
        self._used = self._gauge("places_used", "Places that are taken.")
        self._parked = self._gauge("sessions_parked", "Streams without a connection.")
        self._workers = self._gauge("workers", "Worker processes that are alive.")
        self._ready = self._gauge("ready", "1 while the server takes streams.")
        self._late = _Buckets(
            "lateness_seconds", "From the arrival of a message to its output.", _LATENESS
        )
        self._queued = _Buckets(
            "queue_wait_seconds", "From the arrival of a message to its computation.", _LATENESS
        )
        self._messages = {way: _Payloads(way) for way in ("received", "sent")}
        for each in (self._late, self._queued, *self._messages.values()):
            self.registry.register(each)
        self._checkpoints = self._counter("checkpoints", "Copies of states of streams.")
        self._checkpoint_bytes = self._counter("checkpoint_bytes", "Their size.")
        self._resumed = self._counter("resumes", "Streams resumed, by where from.", ("how",))
        self._started = self._counter("worker_starts", "Worker processes started.")
        self._lost = self._counter("worker_losses", "Worker processes that ended by themselves.")
        self._requests = self._counter("requests", "HTTP requests.", ("path", "status"))
        self._seconds = self._histogram(
            "request_seconds", "From an HTTP request to its answer.", _REQUESTS, ("path",)
        )

    def opened(self, task: str, codec: str) -> None:
        self._sessions.labels(task, codec).inc()
        self._opened.labels(task, codec).inc()

    def closed(self, task: str, codec: str, why: str) -> None:
        """`why`: one of `ENDS`."""
        self._sessions.labels(task, codec).dec()
        self._closed.labels(task, codec, why if why in ENDS else "other").inc()

    def refused(self, code: str) -> None:
        """`code`: one of `protocol.REASONS`."""
        self._refused.labels(code if code in REASONS else "other").inc()

    def places(self, used: int, total: int) -> None:
        self._used.set(used)
        self._places.set(total)

    def parked(self, count: int) -> None:
        self._parked.set(count)

    def workers(self, alive: int) -> None:
        self._workers.set(alive)

    def ready(self, flag: bool) -> None:
        self._ready.set(flag)

    def late(self, seconds: float) -> None:
        """From a message's arrival to its output, less what it waited for its own next samples."""
        self._late.observe(seconds)

    def queued(self, seconds: float) -> None:
        """Of that, until it was computed."""
        self._queued.observe(seconds)

    def received(self, bytes_: int, audio_seconds: float) -> None:
        self._messages["received"].add(bytes_, audio_seconds)

    def sent(self, bytes_: int, audio_seconds: float) -> None:
        self._messages["sent"].add(bytes_, audio_seconds)

    def checkpoint(self, bytes_: int) -> None:
        self._checkpoints.inc()
        self._checkpoint_bytes.inc(bytes_)

    def resumed(self, how: str) -> None:
        """`how`: parked, sealed, peer, state_dir or worker."""
        known = how in ("parked", "sealed", "peer", "state_dir", "worker")
        self._resumed.labels(how if known else "other").inc()

    def worker_started(self) -> None:
        self._started.inc()

    def worker_lost(self) -> None:
        self._lost.inc()

    def request(self, path: str, status: int, seconds: float) -> None:
        known = path if path in PATHS else "other"
        self._requests.labels(known, status).inc()
        self._seconds.labels(known).observe(seconds)

    def render(self) -> tuple[bytes, str]:
        """Return the text that Prometheus reads, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"syllabary_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"syllabary_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> Histogram:
        return Histogram(f"syllabary_{name}", text, labels, registry=self.registry, buckets=buckets)
