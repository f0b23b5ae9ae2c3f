import numpy as np
import pytest

from syllabary.eval.studies import robustness
from syllabary.eval.studies.robustness import run
from syllabary.eval.unit_measures.perturbations import PERTURBATIONS, add_noise

from ... import tiny_codecs
from ...conftest import synthetic_speech
from .benches import bench_of, curves_of, values_of


def test_changes(monkeypatch):
    monkeypatch.setattr(robustness, "CLIPS", 2)
    waves = [synthetic_speech(40_000, seed) for seed in range(2)]
    bench = bench_of(tiny_codecs.rvq(), waves)
    findings = run(bench)
    found = values_of(findings)
    assert set(robustness._NAMES) == {change.name for change in PERTURBATIONS}
    rates = [found[f"ued-{name}"] for name in robustness._NAMES.values()]
    assert found["ued"] == pytest.approx(np.mean(rates)) and min(rates) > 0
    kept = []
    for item in bench.items:
        codes, noisy = (
            bench.system.encode(wave).codes[0].numpy()
            for wave in (bench.wave(item), add_noise(bench.wave(item), 16_000, 10))
        )
        kept.append((codes == noisy).mean(1))
    assert curves_of(findings)["kept-noise"].y == pytest.approx(100 * np.mean(kept, 0))
    assert found["kept-noise"] == pytest.approx(100 * np.mean(kept))
    assert "0 parallel sentences" in findings.missing["speakers"]


def test_speakers(monkeypatch):
    """Two sentences by two speakers each, who say them in exactly the same way."""
    monkeypatch.setattr(robustness, "CLIPS", 1)
    said = [synthetic_speech(34_000, seed) for seed in (1, 2)]
    bench = bench_of(
        tiny_codecs.rvq(),
        [said[0], said[0], said[1], said[1]],
        text=["One two three.", "one two three", "four five six", "Four, five, six!"],
        speaker=["a", "b", "a", "b"],
    )
    found = values_of(run(bench))
    assert found["ued-speakers"] == found["speakers"] == 0
