"""Autobahn's WebSocket test suite against the server's `WebSocket`, as it was published.

    P=~/.pyenv/versions/2.7.18/bin/python2.7      # any Python 2.7: the suite has no other version
    $P -m pip install --target /tmp/autobahn 'Twisted==20.3.0' 'txaio<=2.1.0' 'autobahn==0.10.9' \\
        'jinja2<3' 'markupsafe<2' 'Werkzeug<2' 'klein<21' 'pyopenssl<22' 'service-identity<22' \\
        unittest2 'setuptools<45' wsaccel
    $P -m pip install --target /tmp/autobahn --no-deps autobahntestsuite==0.8.2
    touch /tmp/autobahn/zope/__init__.py          # which --target leaves out
    python benchmarks/serving_autobahn.py --python2 $P --suite /tmp/autobahn

Categories 1 to 7, 9 and 10, the cases of the protocol without compression, which the server does
not offer: 301. The server behind the protocol answers to its own messages only, so the connection
is taken over as `serving/server.py` does it, and echoes.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from serving_server import listening
from serving_speech import head, row

from syllabary.serving.event_loop import new_event_loop

_CASES = [f"{category}.*" for category in (1, 2, 3, 4, 5, 6, 7, 9, 10)]
_MOST = 32 << 20  # the longest message of category 9 has 16 MiB
_RUN = "import sys; sys.path.insert(0, {!r}); from autobahntestsuite.wstest import run; run()"


async def echo(port: int) -> None:
    """Serve an echo at /, until the process is killed."""
    from aiohttp import web

    from syllabary.serving.connection import no_delay
    from syllabary.serving.websocket import WebSocket

    async def connected(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=False, max_msg_size=_MOST, timeout=2.0)
        await response.prepare(request)
        websocket = WebSocket(request, _MOST)
        no_delay(request)
        websocket.listen(websocket.send)
        await websocket.ended
        return response

    app = web.Application()
    app.router.add_get("/", connected)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def measure(python2: str, suite: str, cores: set[int]) -> None:
    """Run the suite; print how many cases ended how, and each one that is not OK."""
    script = [__file__, "--echo"]
    with (
        tempfile.TemporaryDirectory() as folder,
        listening(script, cores, 20.0) as (_, url),
    ):
        spec = Path(folder) / "spec.json"
        server = {"agent": "syllabary", "url": url.replace("http", "ws") + "/"}
        told = {"outdir": folder, "servers": [server], "cases": _CASES, "exclude-cases": []}
        spec.write_text(json.dumps(told | {"exclude-agent-cases": {}}))
        run = [python2, "-W", "ignore", "-c", _RUN.format(suite), "-m", "fuzzingclient", "-s"]
        subprocess.run([*run, str(spec)], check=True, stdout=subprocess.DEVNULL)
        found = json.loads((Path(folder) / "index.json").read_text())["syllabary"]
    head("cases", "behaviour", "close")
    said = [
        ", ".join(f"{name} {count}" for name, count in Counter(parts).most_common())
        for parts in zip(
            *((case["behavior"], case["behaviorClose"]) for case in found.values()), strict=True
        )
    ]
    row(len(found), *said)
    print()
    for name in sorted(found, key=lambda name: [int(part) for part in name.split(".")]):
        case = found[name]
        if {case["behavior"], case["behaviorClose"]} != {"OK"}:
            print(f"{name}: {case['behavior']}, close {case['behaviorClose']}")
    if any("FAILED" in (case["behavior"], case["behaviorClose"]) for case in found.values()):
        sys.exit(1)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python2", help="an interpreter of Python 2.7")
    parser.add_argument("--suite", help="the folder with autobahntestsuite and what it needs")
    parser.add_argument("--echo", type=int, metavar="PORT", help="serve the echo, and do no more")
    options = parser.parse_args(arguments)
    if options.echo:
        with asyncio.Runner(loop_factory=lambda: new_event_loop(2.0)) as runner:
            runner.run(echo(options.echo))
    if not (options.python2 and options.suite):
        parser.error("say --python2 and --suite")
    measure(options.python2, options.suite, {0})


if __name__ == "__main__":
    main(sys.argv[1:])
