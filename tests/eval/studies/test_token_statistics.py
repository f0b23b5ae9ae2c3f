import math

import numpy as np
import pytest
import torch

import syllabary
from syllabary.codecs.tokens import Tokens
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.studies.interface import Bench
from syllabary.eval.studies.token_statistics import STUDY, _even_entropy, run
from syllabary.eval.unit_measures.rates import usage

from ... import tiny_codecs
from ...conftest import synthetic_speech
from .benches import bench_of, curves_of, values_of


@pytest.fixture(scope="module")
def bench():
    waves = [synthetic_speech(8000 + 777 * seed, seed) for seed in range(6)]
    return bench_of(tiny_codecs.rvq(), waves)


def with_codes(bench: Bench, codes) -> Bench:
    """The same items, with other codes: `codes` of the shape of an item's."""
    real = {item.name: bench.tokens(item) for item in bench.items}

    def tokens(item):
        found = real[item.name]
        changed = torch.as_tensor(codes(tuple(found.codes.shape), str(item.name)))
        return Tokens(changed, found.lengths, found.num_samples, found.spec)

    fields = {**vars(bench), "tokens": tokens}
    return Bench(**fields)


def test_counts(bench):
    findings = run(bench)
    found = values_of(findings)
    tokens = [bench.tokens(item) for item in bench.items]
    seconds = sum(t.duration() for t in tokens)
    frames = sum(int(t.lengths[0]) for t in tokens)
    assert found["bitrate"] == pytest.approx(frames * 4 * 5 / seconds)
    assert found["frames"] == pytest.approx(frames / seconds)
    assert found["tokens"] == pytest.approx(4 * frames / seconds)
    assert found["tokens-deduplicated"] <= found["tokens"]
    assert 0 < found["entropy-observed"] <= 5
    assert found["huffman-rate"] >= found["entropy-observed"] * found["tokens"] - 1e-6
    assert {len(curve.x) for curve in curves_of(findings).values()} == {4}
    assert "no bundled" in findings.missing["pieces"]
    assert all(value.count for value in findings.values)


def test_one_code_costs_nothing(bench):
    found = values_of(run(with_codes(bench, lambda shape, _: np.full(shape, 3))))
    assert found["entropy-observed"] == 0 and found["perplexity"] == 1
    assert found["use"] == pytest.approx(100 / 32)
    assert found["tokens-deduplicated"] < found["tokens"] / 10
    assert found["entropy-conditional"] < 0.5


def test_even_codes_cost_all(bench):
    def even(shape, name):
        return np.random.default_rng(int(name)).integers(0, 32, shape)

    findings = run(with_codes(bench, even))
    found = values_of(findings)
    assert found["entropy-observed"] < 5 < found["entropy"] < 5.3
    assert found["entropy-conditional"] > 4.9
    assert found["tokens-deduplicated"] == pytest.approx(found["tokens"])
    assert any(note.startswith("Undersampled") for note in findings.notes)


@pytest.mark.parametrize("count, size", [(2000, 300), (500, 5000), (100, 65_536)])
def test_entropy_of_even_draws(count, size):
    random = np.random.default_rng(0)
    drawn = [usage([random.integers(0, size, count)], size).entropy for _ in range(30)]
    assert _even_entropy(count, size) == pytest.approx(np.mean(drawn), abs=0.02)


def test_codes_that_fail_are_named(bench):
    def tokens(item):
        if item.name.name == "02":
            raise MetricError("no such file")
        return bench.tokens(item)

    findings = run(Bench(**{**vars(bench), "tokens": tokens}))
    assert "02: no such file" in findings.notes[-1]
    assert findings.values[0].count == 5
    few = Bench(**{**vars(bench), "items": bench.items[2:3], "tokens": tokens})
    with pytest.raises(MetricError, match="no such file"):
        run(few)


def test_pieces_of_the_units_that_ship():
    waves = [synthetic_speech(16_000, seed) for seed in range(2)]
    findings = run(bench_of(syllabary.load("units-16k"), waves))
    found = values_of(findings)
    assert 0 < found["pieces"] <= found["tokens-deduplicated"]
    assert found["pieces-bitrate"] == pytest.approx(found["pieces"] * math.log2(4000))
    assert not findings.missing


def test_who_can_have_it(bench):
    assert STUDY.unsuitable(bench.system) is None
