"""The examples of deployments: what their own tools, and ours, say of them."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from syllabary.serving.config import Config, load_config

from ..conftest import ROOT

EXAMPLES = ROOT / "examples"


def tool(name):
    """A program beside this Python, or on the path."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def test_the_configuration_is_valid():
    config = load_config(EXAMPLES / "serve.toml", {})
    assert config.key_file == str(EXAMPLES / "key") and config.url.startswith("https://")


def test_pages_list_every_example():
    text = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    for path in EXAMPLES.iterdir():
        if path.is_file():
            assert f"`{path.name}`" in text, path.name


@pytest.mark.skipif(tool("systemd-analyze") is None, reason="no systemd on this machine")
def test_the_unit(tmp_path):
    unit = (EXAMPLES / "syllabary.service").read_text()
    # What is installed there on a server, from here.
    unit = unit.replace("/opt/syllabary/bin/syllabary", sys.executable)
    (tmp_path / "syllabary.service").write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
         str(tmp_path / "syllabary.service")],
        capture_output=True, text=True,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "syllabary.service" in line]
    assert (done.returncode, said) == (0, [])
    seconds = int(re.search(r"TimeoutStopSec=(\d+)", unit)[1])
    assert seconds > load_config(EXAMPLES / "serve.toml", {}).drain_seconds


@pytest.mark.skipif(tool("hadolint") is None, reason="no hadolint on this machine")
def test_the_dockerfile():
    done = subprocess.run(
        [tool("hadolint"), "--format", "json", str(EXAMPLES / "Dockerfile")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def documents():
    return list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text()))


def test_kubernetes_schemas():
    validate = pytest.importorskip("kubernetes_validate")
    for document in documents():
        validate.validate(document, "1.30", strict=True)


def test_kubernetes_objects_belong_together(tmp_path):
    found = {(each["kind"], each["metadata"]["name"]): each for each in documents()}
    pods = found["StatefulSet", "syllabary"]["spec"]
    text = found["ConfigMap", "syllabary"]["data"]["serve.toml"]
    settings = tomllib.loads(text)
    assert set(settings) <= {field.name for field in fields(Config)}
    config = Config(**{**settings, "url": "http://a", "codecs": tuple(settings["codecs"]),
                       "peers": tuple(settings["peers"]), "origins": ()})  # fmt: skip
    service = found["Service", pods["serviceName"]]["spec"]
    assert service["publishNotReadyAddresses"] and service["clusterIP"] == "None"
    assert list(config.peers) == [
        f"http://syllabary-{number}.{pods['serviceName']}:{config.port}"
        for number in range(pods["replicas"])
    ]
    pod = pods["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > config.drain_seconds
    (container,) = pod["containers"]
    assert container["ports"][0]["containerPort"] == config.port
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    for path in (config.key_file, config.token_file):
        assert str(Path(path).parent) in mounts
    labels = pods["template"]["metadata"]["labels"]
    for kind in ("Service", "PodDisruptionBudget"):
        selector = found[kind, "syllabary"]["spec"]["selector"]
        assert selector.get("matchLabels", selector) == labels
    command = [*container["command"][1:], *container["args"]]
    from syllabary.cli.main import cli

    context = cli.commands["serve"].make_context("serve", command[1:])
    assert context.params["url"] == "http://$(POD_NAME).syllabary-peers:8700"


@pytest.mark.slow
def test_ray_serve(tmp_path):
    """Two servers behind Ray: a stream goes through one, and on at the other when it drains."""
    pytest.importorskip("ray.serve")
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import asyncio, json, sys, urllib.request
sys.path.insert(0, {str(EXAMPLES)!r})
import numpy as np
import ray
from ray import serve
from ray_serve import build
from syllabary.serving import connect

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={{"port": 0}})
options = "--workers 1 --spares 0"
serve.run(build({{"codecs": "dmel", "options": options}}), name="syllabary")
port = serve.status().proxies and None
handle = serve.get_app_handle("syllabary")
servers = handle.servers.remote().result(timeout_s=60)
assert len(servers) == 2, servers
wave = (np.sin(np.arange(64_000) / 20) * 0.3).astype(np.float32)

async def stream():
    async with connect(servers, "encode", "dmel") as stream:
        async def send():
            for at in range(0, len(wave), 320):
                await stream.send(wave[at : at + 320])
                await asyncio.sleep(0.002)
            await stream.end()
        sending = asyncio.create_task(send())
        out = b"".join([m.payload async for m in stream])
        await sending
        return out

out = asyncio.run(stream())
import io, torch
import syllabary
from syllabary.serving import CodeReader
print("RESULT", json.dumps({{"bytes": len(out), "servers": len(servers)}}))
serve.shutdown()
ray.shutdown()
"""
    )
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=280,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(re.search(r"RESULT (.*)", done.stdout)[1])
    assert result["servers"] == 2 and result["bytes"] > 1000
