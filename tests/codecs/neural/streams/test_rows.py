"""Rows whose frames are computed together give what each gives alone, codes, samples and states."""

import threading

import numpy as np
import pytest
import torch

from syllabary.codecs.streaming.state import flatten

from .... import tiny_codecs
from ....conftest import synthetic_speech

CODECS = {
    "convolutions": lambda: tiny_codecs.rvq(encoder_look_ahead=1, decoder_look_ahead=2),
    "transformer": lambda: tiny_codecs.ts3(decoder_look_ahead=1),
    "transformer in int8": lambda: tiny_codecs.ts3(int8=True),
    "the paper's frames": tiny_codecs.ts3_frames,
    "a vocoder": lambda: tiny_codecs.dmel(look_ahead=1),
}
ROWS = (1, 2, 17)
PUSHES = 6


@pytest.fixture(params=CODECS, scope="module")
def codec(request):
    return CODECS[request.param]()


def same_state(ours, theirs):
    ours, theirs = flatten(ours), flatten(theirs)
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )


def plan(rng, rows, most):
    """For each push, how much each row gets of what it counts in, and which rows end."""
    for _ in range(PUSHES):
        counts = rng.integers(0, most + 1, rows) * (rng.random(rows) < 0.8)
        # One row with more frames than the others have together, now and then.
        if rng.random() < 0.4:
            counts[rng.integers(rows)] *= 5
        yield counts, (rng.random(rows) < 0.2).tolist()


@pytest.mark.parametrize("rows", ROWS)
@torch.no_grad()
def test_encoders(codec, rows):
    rng = np.random.default_rng(rows)
    kept = codec.spec.tokens.num_codebooks
    batch = codec.start_encoder(rows, kept)
    alone = [codec.start_encoder(1, kept) for _ in range(rows)]
    frames = 0
    for push, (counts, final) in enumerate(plan(rng, rows, 4 * codec.spec.tokens.hop)):
        chunk = [
            torch.from_numpy(synthetic_speech(int(count), 20 * push + row))
            for row, count in enumerate(counts)
        ]
        together = batch.push(chunk, final)
        for row, machine in enumerate(alone):
            (expected,) = machine.push([chunk[row]], final[row])
            assert torch.equal(together[row], expected)
            assert same_state(batch.export_row(row), machine.export_row(0))
            frames += expected.shape[1]
    assert frames > rows


@pytest.mark.parametrize("rows", ROWS)
@torch.no_grad()
def test_decoders(codec, rows):
    rng = np.random.default_rng(rows)
    sizes = torch.tensor(codec.spec.tokens.codebook_sizes)
    batch = codec.start_decoder(rows)
    alone = [codec.start_decoder(1) for _ in range(rows)]
    samples = 0
    for counts, final in plan(rng, rows, 4):
        chunk = [
            torch.from_numpy(rng.integers(0, sizes[:, None].numpy(), (len(sizes), count)))
            for count in counts
        ]
        together = batch.push(chunk, final)
        for row, machine in enumerate(alone):
            (expected,) = machine.push([chunk[row]], final[row])
            assert torch.equal(together[row], expected)
            assert same_state(batch.export_row(row), machine.export_row(0))
            samples += len(expected)
    assert samples > rows * codec.spec.tokens.hop


def memory(state):
    """Addresses of the arrays of a state."""
    return {leaf.data_ptr() for leaf in arrays(state) if leaf.numel()}


def arrays(state):
    for part in vars(state).values() if hasattr(state, "__dict__") else [state]:
        if hasattr(part, "__dict__"):
            yield from arrays(part)
        elif isinstance(part, np.ndarray):
            yield torch.from_numpy(part)
        elif isinstance(part, torch.Tensor):
            yield part


def test_rows_share_no_memory(codec):
    """Nor do they hold that of a push: memory would grow with the batch, or rows meet."""
    rows, hop = 5, codec.spec.tokens.hop
    with codec.stream(batch_size=rows) as session, codec.stream(batch_size=2) as other:
        session.decode(session.encode(torch.zeros(rows, 3 * hop)))
        other.import_row(1, session.export_row(4))
        session.reset(2)
        session.decode(session.encode(0.1 * torch.randn(rows, 3 * hop)))
        machines = [session._encoder, session._decoder, other._encoder, other._decoder]
        seen: set[int] = set()
        for machine in machines:
            for state in machine.states:
                mine = memory(state)
                assert not mine & seen
                seen |= mine
                for leaf in arrays(state):
                    assert leaf.untyped_storage().nbytes() == leaf.nbytes


def test_threads_do_not_meet(codec):
    """Sessions of several rows at once, each in its own thread, on one tokenizer."""
    hop, rows = codec.spec.tokens.hop, 3
    waves = [
        torch.from_numpy(
            np.stack([synthetic_speech(12 * hop, 10 * n + row) for row in range(rows)])
        )
        for n in range(4)
    ]
    heard: list[list[torch.Tensor]] = [[] for _ in waves]

    def work(index: int) -> None:
        with codec.stream(batch_size=rows) as session:
            for chunk in waves[index].split(hop, dim=1):
                heard[index].append(session.decode(session.encode(chunk)))
            heard[index].append(session.flush().wave)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(waves))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for wave, parts in zip(waves, heard, strict=True):
        assert torch.equal(
            torch.cat(parts, 1), codec.decode(codec.encode(wave, codec.spec.sample_rate))
        )
