"""`syllabary serve`: the server for streams and single requests."""

import asyncio
import gc
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import SyllabaryError


@click.command()
@click.argument("codecs", nargs=-1, metavar="[CODEC]...")
@click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file with any of the settings; options override it.",
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="0: any free one.  [default: 8700]")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that compute streams.")
@click.option("--spares", type=click.IntRange(min=0), help="Warm processes in reserve.")
@click.option("--places", type=click.IntRange(min=1), help="Streams a worker.")
@click.option("--url", help="As clients and other servers reach this one.")
@click.option("--peers", multiple=True, metavar="URL", help="Another server of the deployment.")
@click.option("--key-file", help="Secret that all servers of the deployment share.")
@click.option("--state-dir", help="Folder for checkpoints, shared or in memory.")
@click.option("--token-file", help="Bearer tokens, one a line.")
@click.option("--origins", multiple=True, metavar="ORIGIN", help="Of web pages that may connect.")
@click.option("--tls-certificate", help="PEM file.")
@click.option("--tls-key", help="PEM file.")
@click.option("--tick-ms", type=float, help="Handle what arrives within it together.")
@click.option("--lateness-ms", type=float, help="No new streams while output is later.")
@click.option("--drain-seconds", type=float, help="From SIGTERM to the end.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--check", is_flag=True, help="Check the settings, say what would run, and stop.")
def serve(codecs: tuple[str, ...], path: Path | None, check: bool, **options: Any) -> None:
    """Serve streams of speech and codes over WebSocket, and single requests over HTTP.

    CODEC is a bundled name (see `syllabary list`), a folder, or a published model; NAME=CODEC gives
    it another name for clients. Default: rvq-16k.

    \b
    syllabary serve rvq-16k ts3-16k --port 8700
    curl --data-binary @my.wav 'http://localhost:8700/v1/encode?codec=rvq-16k' > my.syl

    SIGTERM drains: streams end, or are handed over, within --drain-seconds.
    """
    try:
        from ..serving.config import load_config
        from ..serving.event_loop import new_event_loop
        from ..serving.logs import set_up
        from ..serving.server import serve as run
        from ..serving.startup_check import check_config
    except ImportError as error:
        raise SyllabaryError(
            f"the server needs {error.name}: pip install 'syllabary[serve]'"
        ) from None

    given = {name: value for name, value in options.items() if value not in (None, ())}
    if codecs:
        given["codecs"] = codecs
    config = load_config(path, given)
    lines = check_config(config)
    if check:
        for line in lines:
            click.echo(line)
        return
    set_up(config.log_level)

    def started(url: str) -> None:
        # What is there now stays: the collector need not look through it while streams wait.
        gc.collect()
        gc.freeze()
        click.echo(f"listening on {url}")  # the log, on standard error, is JSON
        sys.stdout.flush()

    with asyncio.Runner(loop_factory=lambda: new_event_loop(config.tick_ms)) as runner:
        runner.run(run(config, started))
