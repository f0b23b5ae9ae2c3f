from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.audio.manifests import Utterance
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.probes.heads import Pace, turned
from syllabary.eval.probes.inputs import CodeFront, Codes, Features
from syllabary.eval.probes.probe import Result, probe
from syllabary.eval.probes.sampling import choose
from syllabary.eval.probes.task import ProbeTask, SplitBy
from syllabary.eval.probes.training import DIM, Budget, Probe, make_head, seeded

BUDGET = Budget(epochs=1, steps=30)
HEADS = ("linear", "BiLSTM", "ECAPA-like", "CTC linear", "CTC BiLSTM")


def utterances(labels, each, split="train"):
    return [
        Utterance(Path(f"/{label}-{n}"), PurePosixPath(f"{label}-{n}"), 1.0, label, label, split)
        for label in labels
        for n in range(each)
    ]


def codes_of(items, noise, seed=0, codebooks=2, size=12):
    """Two codebooks: one says nothing; the other prefers the code that the speaker's hash names."""
    rows = {}
    for number, item in enumerate(items):
        rng = np.random.default_rng([seed, number])
        frames = int(rng.integers(20, 40))
        row = rng.integers(size, size=(frames, codebooks))
        heard = rng.random(frames) > noise
        row[heard, 1] = ord(item.speaker[0]) % size
        rows[str(item.name)] = row
    return Codes(rows, 50.0)


@pytest.mark.parametrize("heads", ["sequence", "speaker"])
def test_heads_find_what_codes_say_and_nothing_where_they_say_nothing(heads):
    items = utterances("abcd", 20)
    task = ProbeTask("t", "classification", label="speaker", split_by=SplitBy("utterance", 0.5),
                heads=heads)  # fmt: skip
    parts = choose(task, items)
    told = probe(task, parts, codes_of(items, 0.7), budget=BUDGET)
    assert told.train == told.test == 40 and told.classes == 4 and told.majority == 25
    for score in told.heads.values():
        assert score.value > 90 and len(score.seeds) == 3 and score.low <= score.value <= score.high
    assert told.best in told.heads and told.mean <= told.heads[told.best].value
    untold = probe(task, parts, codes_of(items, 1.0), budget=BUDGET)
    assert all(score.value < 50 and score.low < 25 + 10 for score in untold.heads.values())
    # JSON and back.
    assert Result.from_json(told.to_json()) == told


def test_features_are_projected():
    items = utterances("abcd", 20)
    task = ProbeTask("t", "classification", label="speaker", split_by=SplitBy("utterance", 0.5))
    rows = {
        name: np.eye(12, dtype=np.float32)[row[:, 1]] * 1e3
        for name, row in codes_of(items, 0.7).rows.items()
    }
    result = probe(task, choose(task, items), Features(rows, 50.0), budget=BUDGET)
    assert result.heads[result.best].value > 90


def test_the_same_seed_gives_the_same_scores_and_leaves_random_numbers_alone():
    items = utterances("abc", 10)
    task = ProbeTask("t", "classification", label="speaker", split_by=SplitBy("utterance", 0.5))
    parts, codes = choose(task, items), codes_of(items, 0.9)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    torch.set_num_threads(2)
    first = probe(task, parts, codes, 0, Budget(epochs=1, steps=15))
    assert torch.get_num_threads() == 2 and torch.equal(torch.rand(3), expected)
    torch.set_num_threads(1)
    shuffled = Codes(dict(reversed(codes.rows.items())), 50.0)
    assert probe(task, parts, shuffled, 0, Budget(epochs=1, steps=15)) == first
    other = probe(task, parts, codes, 7, Budget(epochs=1, steps=15))
    assert other.heads["linear"].seeds != first.heads["linear"].seeds


def test_speakers_are_verified():
    items = utterances("abcdef", 12) + utterances("ghij", 6, "test")
    task = ProbeTask("t", "verification", label="speaker", train={"split": "train"},
                test={"split": "test"}, heads="speaker")  # fmt: skip
    # A speaker's own distribution over codes, so that unseen speakers can be told apart too.
    rng = np.random.default_rng(0)
    profile = {s: rng.dirichlet(np.full(8, 0.5)) for s in "abcdefghij"}
    rows = {str(i.name): rng.choice(8, size=(30, 1), p=profile[i.speaker]) for i in items}
    parts = choose(task, items)
    told = probe(task, parts, Codes(rows, 50.0), budget=BUDGET)
    assert told.heads[told.best].value < 25 and told.majority is None
    rows = {name: rng.integers(8, size=(30, 1)) for name in rows}
    untold = probe(task, parts, Codes(rows, 50.0), budget=BUDGET)
    assert all(35 < score.value < 65 for score in untold.heads.values())


@pytest.mark.slow
def test_characters_are_recognised():
    rng = np.random.default_rng(0)
    items, rows = [], {}
    for number in range(60):
        text = "".join(rng.choice(list("abcd "), size=6))
        name = f"{number}"
        items.append(Utterance(Path("/x"), PurePosixPath(name), 1.0, "s", f"x{text}x", "train"))
        said = items[-1].text
        said = " ".join(said.split())
        rows[name] = np.repeat([[ord(c) % 32] for c in said], 4, axis=0)
    task = ProbeTask("t", "ctc", split_by=SplitBy("utterance", 0.3))
    parts = choose(task, items)
    budget = Budget(epochs=1, steps=90, rate=2e-2, crop=0)
    told = probe(task, parts, Codes(rows, 50.0), budget=budget)
    assert told.heads[told.best].value < 25 and told.classes == 6
    untold = {name: rng.integers(32, size=row.shape) for name, row in rows.items()}
    result = probe(task, parts, Codes(untold, 50.0), budget=replace(budget, steps=30))
    assert result.heads[result.best].value > 60


def test_what_can_not_be_heard_is_named():
    items = utterances("ab", 20)
    task = ProbeTask("t", "classification", label="speaker", split_by=SplitBy("utterance", 0.5))
    parts, codes = choose(task, items), codes_of(items, 0.5)
    lost = parts.test[0].name
    failed = Codes({n: r for n, r in codes.rows.items() if n != lost}, 50.0, {lost: "it is torn"})
    result = probe(task, parts, failed, budget=Budget(epochs=1, steps=5))
    assert (
        result.test == 19
        and "test: 1 of 20 utterances are left out: it is torn (1)" in result.notes
    )
    nothing = Codes({}, 50.0, dict.fromkeys(codes.rows, "no tokens"))
    with pytest.raises(MetricError, match=r"40 of 40 utterances are left out: no tokens \(40\)"):
        probe(task, parts, nothing)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("frame_rate", [12.5, 50.0])
def test_neighbours_and_padding_do_not_matter(kind, frame_rate):
    rng = np.random.default_rng(0)
    rows = [rng.integers(9, size=(frames, 3)) for frames in (1, 2, 7, 30)]
    with seeded(3):
        front = CodeFront(rows, DIM)
        network = Probe(front, make_head(kind, 5, frame_rate), 0.2).eval()
    with torch.no_grad():
        prepared = [front.prepare(row) for row in rows]
        together = network(prepared)
        for at, row in enumerate(prepared):
            alone = network([row])
            if isinstance(together, tuple):
                count = int(alone[1][0])
                assert int(together[1][at]) == count and alone[0].shape[1] == count
                torch.testing.assert_close(together[0][at, :count], alone[0][0], atol=1e-5, rtol=0)
            else:
                torch.testing.assert_close(together[at], alone[0], atol=1e-5, rtol=0)


def test_paces():
    for rate, frames, expected in (
        (50.0, 7, 4),
        (25.0, 7, 7),
        (12.5, 7, 14),
        (75.0, 7, 3),
        (40, 5, 3),
    ):
        out, lengths = Pace(4, rate)(torch.randn(1, frames, 4), torch.tensor([frames]))
        assert out.shape == (1, expected, 4) and lengths.tolist() == [expected]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_turning_round_twice_changes_nothing(lengths):
    frames = torch.arange(len(lengths) * 9.0).reshape(len(lengths), 9, 1)
    count = torch.tensor(lengths)
    once = turned(frames, count)
    assert torch.equal(turned(once, count), frames)
    for row, back, length in zip(frames, once, lengths, strict=True):
        assert torch.equal(back[:length], row[:length].flip(0))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=12, deadline=None)
def test_a_code_s_vector_is_the_weighted_sum_of_its_codebooks(seed):
    rng = np.random.default_rng(seed)
    codebooks = int(rng.integers(1, 12))
    train = rng.integers(0, 70_000, size=(1, codebooks)).repeat(3, 0)
    train = np.concatenate([train, rng.integers(0, 70_000, size=(2, codebooks))])
    front = CodeFront([train], DIM)
    with torch.no_grad():
        front.attention.copy_(torch.randn(codebooks))
        front.table.copy_(torch.randn_like(front.table))
        seen = front(front.prepare(train[:1]))[0]
        weights = front.attention.softmax(0)
        rows = torch.stack([front.table[start + 1] for start in front.starts])
        torch.testing.assert_close(seen, weights @ rows)
        # What is heard once, or never, is the shared vector of its codebook.
        rare = front(front.prepare(train[-1:]))[0]
        shared = torch.stack([front.table[start] for start in front.starts])
        torch.testing.assert_close(rare, weights @ shared)
