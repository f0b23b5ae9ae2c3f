"""The page in a real browser: sorting, choosing, sound, and no sideways scrolling."""

import http.server
import json
import queue
import re
import shutil
import subprocess
import threading

import pytest

from syllabary.eval.leaderboard.board import collect
from syllabary.eval.leaderboard.build import write_site

from .imagined import SYSTEMS, write_results

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
NAMES = {"rvq-16k:2", "rvq-16k:4", "ts3-16k:2", "codec2-700", "opus-6", "original", "noise"}
REFERENCES = {"original", "noise"}

# Runs beside the page's own script, and sends what it finds. Headless Chromium has no window as
# narrow as a phone, but a frame may be.
PROBE = """
const out = {};
const section = document.querySelector("section.data");
const table = section.querySelector("table.sortable");
const names = () => [...table.querySelectorAll("tbody:not([hidden]) tr[data-band] th")]
  .map(e => e.textContent);
const heading = (text) => [...table.querySelectorAll("thead th")]
  .find(e => e.textContent.startsWith(text));
const sorting = (text) => heading(text).getAttribute("aria-sort");
const press = (text) => heading(text).querySelector("button").click();
const choose = (kind, value) => {
  const box = section.querySelector(`select.${kind}`);
  box.value = value;
  box.dispatchEvent(new Event("change"));
};
out.written = names();
press("PESQ-wb");
out.pesq = [names(), sorting("PESQ-wb")];
choose("view", "together");
out.together = names();
press("PESQ-wb");
out.turned = [names(), sorting("PESQ-wb")];
press("dWER");
out.dwer = [names(), sorting("dWER"), sorting("PESQ-wb")];
choose("view", "1");
out.band = names();
choose("view", "apart");
choose("domain", "digits");
out.domains = [...section.querySelectorAll("[data-domain]")]
  .filter(e => !e.hidden).map(e => e.dataset.domain);
choose("domain", "all");
out.width = [document.documentElement.scrollWidth, innerWidth];
heading("STOI").querySelector("button").focus();
out.focus = document.activeElement.tagName;
const loaded = (element, event) => new Promise(resolve => {
  element.addEventListener(event, () => resolve(null));
  element.addEventListener("error", () => resolve(String(element.error?.message)));
});
const audio = document.querySelector("audio");
audio.preload = "auto";
audio.load();
const frame = document.createElement("iframe");
frame.width = 390;
frame.height = 800;
frame.src = "/index.html";
document.body.append(frame);
Promise.all([loaded(audio, "canplaythrough"), loaded(frame, "load")]).then(([error]) => {
  out.error = error;
  out.seconds = audio.duration;
  const inner = frame.contentDocument.documentElement;
  out.phone = [inner.scrollWidth, inner.clientWidth, inner.classList.contains("js")];
  fetch("/found", { method: "POST", body: JSON.stringify(out) });
});
"""


class Server(http.server.ThreadingHTTPServer):
    """Serves some pages, and keeps what they send and what they ask for."""

    def __init__(self, pages):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.sent, self.asked = pages, queue.Queue(), set()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.add(self.path)
        page = self.server.pages.get(self.path)
        self.send_response(200 if page else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page or b"")

    def do_POST(self):
        self.server.sent.put(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The results, what the probe found, and what was asked for."""
    folder = tmp_path_factory.mktemp("browser")
    few = [system for system in SYSTEMS if system[0] in NAMES]
    board = collect([write_results(folder / "results", few, seconds=1.5)])
    page, _ = write_site(board, folder / "site")
    text = page.read_text()
    # The page's own policy forbids a second script, as it should.
    open_text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    probed = open_text.replace("</body>", f"<script>{PROBE}</script></body>")
    assert len(probed) > len(open_text)
    server = Server({"/index.html": text.encode(), "/probed.html": probed.encode()})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"]
    command += [f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0"]
    address = f"http://127.0.0.1:{server.server_port}/probed.html"
    with subprocess.Popen(
        [*command, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as browser:
        try:
            found = json.loads(server.sent.get(timeout=120))
        finally:
            browser.terminate()
            server.shutdown()
            server.server_close()
    return board, found, server.asked


def value(board, name, metric):
    result = next(e.result for e in board.sections[0].entries if e.name == name)
    return next(m for m in result.metrics if m.name == metric).domains["all"].value


def test_a_click_sorts_within_bands_and_a_second_turns_it_round(seen):
    board, found, _ = seen
    entries = board.sections[0].entries
    bands = {entry.name: entry.band for entry in entries}
    pesq = {name: value(board, name, "pesq-wb") for name in NAMES}
    dwer = {name: value(board, name, "dwer") for name in NAMES}
    assert found["written"] == [entry.name for entry in entries]
    names = sorted(NAMES, key=lambda n: (bands[n], -pesq[n]))
    assert found["pesq"] == [names, "descending"], "the better end first"
    assert found["together"] == sorted(NAMES, key=lambda n: (n in REFERENCES, -pesq[n]))
    turned = sorted(NAMES, key=lambda n: (n in REFERENCES, pesq[n]))
    assert found["turned"] == [turned, "ascending"]
    lowest = sorted(NAMES, key=lambda n: (n in REFERENCES, dwer[n]))
    assert found["dwer"] == [lowest, "ascending", "none"]
    assert found["focus"] == "BUTTON", "a keyboard gets there"


def test_domains_and_bands_are_chosen(seen):
    _, found, _ = seen
    assert set(found["band"]) == {"codec2-700", "ts3-16k:2", "rvq-16k:2"} | REFERENCES
    assert found["domains"] == ["digits"]


def test_it_plays(seen):
    _, found, _ = seen
    assert found["error"] is None and found["seconds"] == pytest.approx(1.5, abs=0.01)


def test_nothing_overflows_a_desk_or_a_phone(seen):
    _, found, _ = seen
    assert found["width"][0] <= found["width"][1]
    wide, room, scripted = found["phone"]
    assert wide <= room <= 390
    assert scripted, "the page's own script is what its policy allows"


def test_nothing_else_is_asked_for(seen):
    _, _, asked = seen
    assert asked <= {"/probed.html", "/index.html", "/favicon.ico"}
