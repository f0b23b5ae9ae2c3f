"""Logs are JSON without secrets; metrics are what Prometheus reads, with bounded labels."""

import json
import logging
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from syllabary.serving.logs import JSONFormatter
from syllabary.serving.metrics import Metrics
from syllabary.serving.protocol import REASONS

SECRET = "s3cr3t-" + "x" * 30


@pytest.fixture
def lines(monkeypatch):
    """What is logged, line by line."""
    found = []

    class Handler(logging.Handler):
        def emit(self, record):
            found.append(self.format(record))

    handler = Handler()
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    logger = logging.getLogger("syllabary.serving")
    before = logger.level
    logger.setLevel(logging.DEBUG)  # not the attribute: loggers remember what is enabled
    yield found
    logger.setLevel(before)


def test_events(lines):
    from syllabary.serving.logs import event

    event("opened", "s-1", codec="dmel", n=2, path=json)
    event("odd\n", level="warning", level_="x", session_="y", event="z", time="w")
    first, second = map(json.loads, lines)
    assert first["event"] == "opened" and first["session"] == "s-1" and first["level"] == "info"
    assert first["codec"] == "dmel" and first["n"] == 2 and "module" in first["path"]
    assert first["time"].endswith("Z")
    assert second["event"] == "odd\n" and "session" not in second, "fields can't forge the rest"
    assert second["time"] != "w"


def test_no_secret_is_logged(lines):
    from syllabary.serving.logs import event

    event("opened", token=SECRET, authorization=SECRET, api_key=SECRET, resume_token=SECRET)
    event("asked", header=f"Bearer {SECRET}", subprotocols=f"syllabary.v1, bearer.{SECRET}")
    logging.getLogger("aiohttp.server").error("400: b'Authorization: bearer %s'", SECRET)
    try:
        raise ValueError(f"Invalid header value: Bearer {SECRET}")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling request")
    assert len(lines) == 4 and SECRET not in "\n".join(lines)
    assert json.loads(lines[0])["token"] == "[hidden]"
    assert json.loads(lines[2])["logger"] == "aiohttp.server"
    assert "ValueError" in json.loads(lines[3])["exception"]


def test_set_up_writes_lines_of_json_only():
    program = """
import logging, warnings
from syllabary.serving.logs import event, set_up
set_up("info")
event("fine", "s-1", level="debug")
event("kept", "s-1", text="two\\nlines")
warnings.warn("odd")
logging.getLogger("aiohttp.access").info("GET /?token=x")
logging.getLogger("asyncio").error("broken")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 0 and done.stdout == ""
    assert [line["event"] for line in found] == ["kept", "log", "log"]
    assert found[0]["text"] == "two\nlines"


def values(metrics):
    body, kind = metrics.render()
    assert kind.startswith("text/plain")
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_metrics():
    metrics = Metrics()
    metrics.opened("encode", "dmel")
    metrics.opened("encode", "dmel")
    metrics.closed("encode", "dmel", "end")
    metrics.refused("full")
    metrics.places(3, 32)
    metrics.parked(1)
    metrics.workers(2)
    metrics.ready(True)
    metrics.late(0.004)
    metrics.late(0.2)
    metrics.queued(0.001)
    metrics.received(640, 0.02)
    metrics.sent(26, 0.02)
    metrics.checkpoint(1000)
    metrics.resumed("peer")
    metrics.worker_started()
    metrics.worker_lost()
    metrics.request("/v1/encode", 200, 0.3)
    found = values(metrics)
    for name, value in {
        ("syllabary_sessions", "dmel", "encode"): 1,
        ("syllabary_sessions_opened_total", "dmel", "encode"): 2,
        ("syllabary_sessions_closed_total", "dmel", "encode", "end"): 1,
        ("syllabary_refusals_total", "full"): 1,
        ("syllabary_refusals_total", "unauthorized"): 0,
        ("syllabary_places",): 32,
        ("syllabary_places_used",): 3,
        ("syllabary_sessions_parked",): 1,
        ("syllabary_workers",): 2,
        ("syllabary_ready",): 1,
        ("syllabary_lateness_seconds_count",): 2,
        ("syllabary_lateness_seconds_bucket", "0.02"): 1,
        ("syllabary_queue_wait_seconds_count",): 1,
        ("syllabary_received_bytes_total",): 640,
        ("syllabary_sent_audio_seconds_total",): 0.02,
        ("syllabary_checkpoint_bytes_total",): 1000,
        ("syllabary_resumes_total", "peer"): 1,
        ("syllabary_worker_losses_total",): 1,
        ("syllabary_requests_total", "/v1/encode", "200"): 1,
    }.items():
        assert found[name] == value, name
    assert found[("process_resident_memory_bytes",)] > 0


def test_clients_cannot_make_labels():
    metrics = Metrics()
    before = len(values(metrics))
    for number in range(100):
        metrics.refused(f"code-{number}")
        metrics.resumed(f"how-{number}")
        metrics.request(f"/{number}", 404, 0.1)
        metrics.closed("encode", "dmel", f"why-{number}")
    assert len(values(metrics)) < before + 30
    codes = {name[1] for name in values(metrics) if name[0] == "syllabary_refusals_total"}
    assert codes == set(REASONS) | {"other"}
