"""Fixtures. Real speech is looked for in $SYLLABARY_SPEECH; without it those tests skip."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import syllabary

ROOT = Path(__file__).parent.parent


def synthetic_speech(num_samples: int, seed: int = 0, sample_rate: int = 16000) -> np.ndarray:
    """Something like speech: harmonics of a gliding pitch in bursts, noise, and silences."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples) / sample_rate
    pitch = 120 + 60 * rng.random() + 30 * np.sin(2 * np.pi * (1 + rng.random()) * time)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    voiced = sum(np.sin(k * phase) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time + rng.random()), 0, 1)
    fricatives = np.clip(np.sin(2 * np.pi * 3 * time + 2), 0.7, 1) - 0.7
    wave = 0.1 * syllables * voiced + 0.2 * fricatives * rng.standard_normal(num_samples)
    return wave.astype(np.float32)


@pytest.fixture(scope="session")
def speech_folder() -> Path:
    folder = os.environ.get("SYLLABARY_SPEECH")
    if not folder:
        pytest.skip("set SYLLABARY_SPEECH to a folder of real speech with a manifest.jsonl")
    return Path(folder)


@pytest.fixture(scope="session")
def demo_clip() -> Path:
    return ROOT / "assets" / "demo.flac"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the contract's tests of the tokenizers in its `SELDOM` as slow."""
    for item in items:
        seldom = getattr(item.module, "SELDOM", ())
        if seldom and hasattr(item, "callspec"):
            values = item.callspec.params.values()
            if any(isinstance(value, str) and value in seldom for value in values):
                item.add_marker("slow")


def pytest_addoption(parser):
    parser.addoption("--folders", action="store_true", help="say how long each folder's tests took")


def pytest_terminal_summary(terminalreporter):
    """How much of the contract ran, and which code blocks of the docs did not, and why."""
    if terminalreporter.config.getoption("folders"):
        summarise_folders(terminalreporter)
    summarise_contract(terminalreporter)
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "not run" and report.when == "call":
                terminalreporter.write_line(f"not run: {value}")


def summarise_folders(terminalreporter):
    """Seconds and cases of each folder, and of each file that lies in none, the longest first."""
    seconds, cases = Counter(), Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                path = Path(report.nodeid.partition("::")[0])
                place = path if path.parent.name == "tests" else path.parent
                seconds[place] += report.duration
                cases[place] += report.when == "call"
    for place, spent in seconds.most_common():
        terminalreporter.write_line(f"{spent:7.1f} s {cases[place]:5d} cases  {place}")


def summarise_contract(terminalreporter):
    """How many cases of the contract ran, and for how many tokenizers."""
    counts = {}
    names = set()
    for outcome in ("passed", "failed", "skipped"):
        reports = [
            report
            for report in terminalreporter.stats.get(outcome, [])
            if "test_contract.py" in report.nodeid and report.when in ("call", "setup")
        ]
        counts[outcome] = len(reports)
        names |= {
            name
            for report in reports
            for name in syllabary.list_tokenizers()
            if re.search(rf"[\[-]{re.escape(name)}[\]-]", report.nodeid)
        }
    if counts["passed"]:
        cases = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        terminalreporter.write_line(f"contract: {cases}, over {len(names)} tokenizers")


@pytest.fixture(autouse=True)
def one_thread():
    """Tests are small: threads would only wait for each other."""
    torch.set_num_threads(1)
