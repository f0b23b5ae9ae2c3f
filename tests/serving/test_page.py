"""The page in a real browser with a fake microphone: its codes are those of the command line."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import soundfile

from syllabary.serving.client import connect
from syllabary.serving.page import page
from syllabary.serving.protocol import PCM

from ..conftest import synthetic_speech
from .conftest import CODECS
from .running import Running

#: A server with compute processes: its kernels alone take minutes of a shared core to compile.
pytestmark = pytest.mark.slow

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
#: A folder for screenshots, to look at.
SHOTS = os.environ.get("SYLLABARY_SCREENSHOTS")


class Browser:
    """A page of headless Chromium, driven by its DevTools protocol."""

    def __init__(self, socket):
        self._socket, self._numbers = socket, itertools.count(1)
        self.errors = []

    async def call(self, method, **params):
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            answer = await self._socket.receive_json()
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(json.dumps(answer["params"])[:500])
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    async def run(self, script):
        """The value of a JavaScript expression, awaited."""
        answer = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script, seconds=80.0):
        end = asyncio.get_running_loop().time() + seconds
        while not await self.run(script):
            if asyncio.get_running_loop().time() > end:
                said = await self.run("document.getElementById('status').textContent")
                raise AssertionError(f"{script} never came; the page says {said!r}: {self.errors}")
            await asyncio.sleep(0.05)

    async def shoot(self, name):
        if SHOTS:
            shot = await self.call("Page.captureScreenshot")
            (Path(SHOTS) / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))


async def open_browser(http, url, profile, width):
    """The first page of a browser that has just been started."""
    port = profile / "DevToolsActivePort"
    while not port.exists() or not port.read_text().strip():
        await asyncio.sleep(0.05)
    base = f"http://127.0.0.1:{port.read_text().split()[0]}"
    async with http.get(f"{base}/json") as answer:
        target = next(each for each in await answer.json() if each["type"] == "page")
    socket = await http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=1 << 28)
    browser = Browser(socket)
    for domain in ("Runtime", "Log", "Page"):
        await browser.call(f"{domain}.enable")
    await browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=844, deviceScaleFactor=1, mobile=True,
    )  # fmt: skip
    await browser.call("Page.navigate", url=url + "/")
    return browser


@pytest.fixture(scope="module")
def page_server(loop):
    running = Running(loop, codecs=CODECS[:1], workers=1, spares=0, places=4)
    yield running
    running.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_microphone_to_codes_to_speech(page_server, tmp_path):
    wave = synthetic_speech(3 * 48_000, 11, 48_000)
    soundfile.write(tmp_path / "voice.wav", wave, 48_000, "PCM_16")
    profile = tmp_path / "profile"
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
        *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
        f"--use-file-for-fake-audio-capture={tmp_path / 'voice.wav'}",
        *("--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}"),
        "about:blank",
    ]

    async def test():
        async with aiohttp.ClientSession() as http:
            browser = await open_browser(http, page_server.url, profile, 390)
            await browser.until("document.querySelectorAll('#codec option').length")
            options = await browser.run("[...$('codec').options].map(o => o.value)")
            assert set(options) == {"dmel"}
            await browser.shoot("before")
            await browser.run("$('codec').value = 'dmel'; $('start').click()")
            await browser.until("run && run.frames >= 20")
            for session in list(page_server.engine.sessions.values()):
                if session.connection is not None:
                    page_server.loop.loop.call_soon_threadsafe(session.connection.abort)
            await browser.until("run && run.frames >= 60")
            await browser.until("$('speech-late').textContent.includes('ms')")
            await browser.shoot("speaking")
            wide = await browser.run("document.documentElement.scrollWidth")
            shown = await browser.run("[...document.querySelectorAll('dd')].map(d => d.innerText)")
            colours = await browser.run(
                "new Set(new Uint32Array($('codes').getContext('2d').getImageData(0, 0, "
                "$('codes').width, $('codes').height).data.buffer)).size"
            )
            await browser.run("$('start').click()")
            await browser.until("finished !== null")
            await browser.shoot("after")
            bytes_of = "Array.from(new Uint8Array(await new Blob({}).arrayBuffer()))"
            found = await browser.run(
                "(async () => ({ status: $('status').textContent, rate: finished.rate, "
                f"syl: {bytes_of.format('finished.syl')}, "
                f"wav: {bytes_of.format('[wavOf(finished)]')}, "
                "samples: finished.samples, heard: finished.decoder.got }))()"
            )
            return wide, shown, colours, found, browser.errors

    async def again(found):
        """The same recording through the client."""
        pcm = PCM("s16le", found["rate"])
        async with connect(page_server.url, "encode", "dmel", input=pcm) as stream:
            sending = asyncio.create_task(send(stream, bytes(found["wav"])[44:]))
            out = b"".join([message.payload async for message in stream])
            await sending
            return out

    async def send(stream, data):
        await stream.send(data)
        await stream.end()

    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as chromium:
        try:
            wide, shown, colours, found, errors = asyncio.run(asyncio.wait_for(test(), 200))
        finally:
            chromium.terminate()
    assert wide <= 390, "nothing overflows a phone"
    assert all(any(digit in text for digit in "0123456789") for text in shown), shown
    assert "ms by design" in shown[0] and "kbit/s" in shown[2]
    assert colours > 4, "codes are drawn"
    assert "every one came" in found["status"]
    (tmp_path / "speech.wav").write_bytes(bytes(found["wav"]))
    recorded, rate = soundfile.read(tmp_path / "speech.wav", dtype="int16")
    assert rate == found["rate"] and len(recorded) == found["samples"]
    assert np.abs(recorded).max() > 1000, "the fake microphone was heard"
    assert asyncio.run(again(found)) == bytes(found["syl"])
    # The connections that were broken off are told of; nothing else went wrong.
    assert [error for error in errors if "WebSocket" not in error and "favicon" not in error] == []


def test_the_policy_is_of_this_page():
    text, headers = page()
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy and policy.count("'sha256-") == 2
    assert "http" not in text.replace("https pages", "").replace('replace("http", "ws")', "")
