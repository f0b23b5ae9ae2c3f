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
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from serving_server import HERE, listening
from serving_speech import head, row

_CASES = [f"{category}.*" for category in (1, 2, 3, 4, 5, 6, 7, 9, 10)]
_RUN = "import sys; sys.path.insert(0, {!r}); from autobahntestsuite.wstest import run; run()"


def measure(python2: str, suite: str) -> None:
    """Run the suite; print how many cases ended how, and each one that is not OK."""
    script = [str(HERE / "serving_echo.py"), "syllabary+ticks"]
    with tempfile.TemporaryDirectory() as folder, listening(script, {0}, 20.0) as (_, url):
        spec = Path(folder) / "spec.json"
        server = {"agent": "syllabary", "url": url.replace("http", "ws") + "/echo"}
        told = {"outdir": folder, "servers": [server], "cases": _CASES, "exclude-cases": []}
        spec.write_text(json.dumps(told | {"exclude-agent-cases": {}}))
        run = [python2, "-W", "ignore", "-c", _RUN.format(suite), "-m", "fuzzingclient", "-s"]
        subprocess.run([*run, str(spec)], check=True, stdout=subprocess.DEVNULL)
        found = json.loads((Path(folder) / "index.json").read_text())["syllabary"]
    head("cases", "behaviour", "close")
    said = []
    for part in ("behavior", "behaviorClose"):
        counts = Counter(case[part] for case in found.values()).most_common()
        said.append(", ".join(f"{name} {count}" for name, count in counts))
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
    parser.add_argument("--python2", required=True, help="an interpreter of Python 2.7")
    parser.add_argument(
        "--suite", required=True, help="the folder with autobahntestsuite and what it needs"
    )
    options = parser.parse_args(arguments)
    measure(options.python2, options.suite)


if __name__ == "__main__":
    main(sys.argv[1:])
