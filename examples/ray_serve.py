"""Syllabary on Ray Serve: Ray starts, places, watches and drains servers; clients talk to them.

    serve run examples.ray_serve:app            # from the root of a checkout
    curl http://localhost:8000/                 # {"servers": ["http://10.0.0.5:41234", ...]}

Each replica runs one `syllabary serve`. Audio does not pass through Ray's proxy, which would add
its own latency to every frame; the application at the front tells clients where the servers are,
least busy first. `connect(servers, ...)` takes the list as it is, and goes on at another of them
when one drains or dies. All replicas share one key, so any takes any stream.
"""

import asyncio
import os
import re
import secrets
import signal
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

#: Longer than `drain_seconds` of the servers.
GRACE_SECONDS = 20


@serve.deployment(
    num_replicas=2,
    ray_actor_options={"num_cpus": 1},
    graceful_shutdown_timeout_s=GRACE_SECONDS,
    health_check_period_s=5,
)
class CodecServer:
    """One server, in processes of its own.

    Args:
        codecs: as for `syllabary serve`.
        key: of the deployment.
        options: further ones of `syllabary serve`.
    """

    async def __init__(self, codecs: list[str], key: str, options: list[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="syllabary-")
        key_file = Path(self._folder.name) / "key"
        key_file.touch(mode=0o600)
        key_file.write_text(key)
        host = ray.util.get_node_ip_address()
        command = ["-m", "syllabary", "serve", *codecs, "--host", host, "--port", "0"]
        command += ["--key-file", str(key_file), "--drain-seconds", str(GRACE_SECONDS / 2)]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *command, *options, stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr is not None
        said = b""
        while (found := re.search(rb"(http://[^\s\"]+)", said)) is None:
            line = await self._process.stderr.readline()
            if not line:
                raise RuntimeError(f"the server did not start: {said.decode()[-500:]}")
            said += line
        self.url = found[1].decode()
        # Its log goes to Ray's.
        self._log = asyncio.create_task(self._pass_on())

    async def _pass_on(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            print(line.decode().rstrip(), flush=True)

    async def check_health(self) -> None:
        """Ray replaces a replica whose server has ended."""
        if self._process.returncode is not None:
            raise RuntimeError(f"the server ended with {self._process.returncode}")

    async def __del__(self) -> None:
        """Drain; Ray calls this, and waits `graceful_shutdown_timeout_s`."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            await self._process.wait()
        self._folder.cleanup()

    async def whereabouts(self) -> dict[str, Any]:
        """Return the server's URL, and how busy it is."""
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=2) as answer:
            text = answer.read().decode()
        found = {
            name: float(value)
            for name, value in re.findall(r"^syllabary_(\w+) (\S+)$", text, re.MULTILINE)
        }
        return {"url": self.url, "used": found["places_used"], "ready": found["ready"]}


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Directory:
    """Tells clients where the servers are."""

    def __init__(self, servers: Any) -> None:
        self._servers = servers

    async def servers(self) -> list[str]:
        """Return the URLs of the servers that take streams, least busy first."""
        answers = self._servers.broadcast("whereabouts")
        found = await answers.results_async(timeout_s=5, return_exceptions=True)
        ready = [each for each in found if isinstance(each, dict) and each["ready"]]
        return [each["url"] for each in sorted(ready, key=lambda each: each["used"])]

    async def __call__(self, request: Request) -> JSONResponse:
        return JSONResponse({"servers": await self.servers()})


def build(arguments: dict[str, str]) -> Any:
    """Return the application; `serve run examples.ray_serve:build codecs=ts3-16k,rvq-16k`."""
    codecs = arguments.get("codecs", "rvq-16k").split(",")
    key = os.environ.get("SYLLABARY_KEY") or secrets.token_hex(32)
    options = arguments.get("options", "").split()
    return Directory.bind(CodecServer.bind(codecs, key, options))


app = build({})
