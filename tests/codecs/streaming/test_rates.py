"""Sessions at other sample rates, with samples of 16 bits and bytes; what they print."""

import gc
import threading
import time

import numpy as np
import pytest
import torch

import syllabary
from syllabary.codecs.streaming import AsyncStreamPool, StreamPool
from syllabary.errors import CapacityError, StateError, WaveError

from ... import tiny_codecs
from ...conftest import synthetic_speech

CODEC = tiny_codecs.fsq(name="tiny-fsq")
RATE = 16000


def pieces(wave, *sizes):
    start = 0
    for size in sizes:
        yield wave[..., start : start + size]
        start += size
    yield wave[..., start:]


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("sizes", [(), (0, 1, 700, 0, 5), (441,) * 20])
def test_streams_at_another_rate_equal_the_offline_calls(rate, sizes):
    wave = synthetic_speech(rate, 0, rate)
    offline = CODEC.encode(wave, rate, resample=True)
    with CODEC.stream(sample_rate=rate) as session:
        parts, pcm = [], []
        for piece in pieces(wave, *sizes):
            parts.append(session.encode(piece))
            pcm.append(session.decode(parts[-1]))
        end = session.flush()
        assert session.samples_in == [len(wave)]
        assert session.samples_out == [sum(p.shape[1] for p in pcm) + end.wave.shape[1]]
    assert syllabary.Tokens.concat([*parts, end.tokens]).equal(offline)
    said = torch.cat([*pcm, end.wave], 1)
    assert torch.equal(said, CODEC.decode(offline, sample_rate=rate))


def test_rows_at_another_rate_end_and_begin_by_themselves():
    rate = 44100
    waves = [synthetic_speech(n, n, rate) for n in (12_000, 5_000)]
    with CODEC.stream(batch_size=2, sample_rate=rate) as session:
        first = session.latents([waves[0][:6000], waves[1]], final=[False, True])
        session.reset(1)
        second = session.latents([waves[0][6000:], waves[1]], final=True)
        nothing = CODEC.stream(sample_rate=rate).latents(np.zeros(0, np.float32), final=True)
    both = syllabary.Latents.concat([first[0], second[0]])
    assert both.equal(CODEC.latents(waves[0], rate, resample=True))
    alone = CODEC.latents(waves[1], rate, resample=True)
    assert first[1].equal(alone) and second[1].equal(alone)
    assert nothing.lengths.tolist() == [0]


def test_rates_and_states_that_can_not_be():
    for rate in (10, "16000", float("inf")):
        with pytest.raises(WaveError, match="sample rates"):
            CODEC.stream(sample_rate=rate)
    session = CODEC.stream(sample_rate=8000)
    session.encode(np.zeros(800, np.float32))
    state = CODEC.stream().export_row(0)
    for call in (lambda: session.export_row(0), lambda: session.import_row(0, state)):
        with pytest.raises(StateError, match="resampled can't move"):
            call()
    assert CODEC.stream(sample_rate=RATE).export_row(0)


def test_samples_of_16_bits_and_bytes():
    whole = (synthetic_speech(5000) * 32767).astype(np.int16)
    offline = CODEC.encode(whole, RATE)
    data = whole.astype("<i2").tobytes()
    for chunks in (
        np.array_split(whole, 7),
        [data[at : at + 642] for at in range(0, len(data), 642)],
        [bytearray(data[:100]), memoryview(data[100:])],
    ):
        with CODEC.stream() as session:
            parts = [session.encode(chunk) for chunk in chunks]
            parts.append(session.flush().tokens)
        assert syllabary.Tokens.concat(parts).equal(offline)
    with pytest.raises(WaveError, match="3 bytes end within"):
        CODEC.stream().encode(b"abc")
    with pytest.raises(WaveError, match="2 rows, got 1"):
        CODEC.stream(batch_size=2).encode(b"abcd")


# --- pools ---------------------------------------------------------------------------------------


def test_a_pool_takes_rates_and_bytes():
    wave = (synthetic_speech(8000) * 32767).astype(np.int16)
    with StreamPool(CODEC, 2) as pool, pool.join(sample_rate=8000) as stream:
        parts = [stream.encode(wave[:999].tobytes()), stream.encode(wave[999:], final=True)]
    assert syllabary.Tokens.concat(parts).equal(CODEC.encode(wave, 8000, resample=True))


def test_places_of_dropped_streams_come_back():
    pool = StreamPool(CODEC, 2)
    wave = synthetic_speech(3200)
    kept = pool.join()
    for _ in range(5):
        pool.join().encode(wave)  # nobody holds it any more
        gc.collect()
    assert pool.clients == 1
    assert pool.stats.encode.calls == 5  # of those that are gone
    kept.encode(wave)
    assert pool.stats.encode.calls == 6
    kept.leave()
    assert pool.clients == 0 and pool.stats.encode.calls == 6


def test_dropping_in_many_threads_loses_no_place_and_does_not_hang():
    pool = StreamPool(CODEC, 50)

    def work():
        for _ in range(30):
            pool.join().encode(np.zeros(10, np.float32))
            _ = pool.stats

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    gc.collect()
    assert pool.clients == 0 and pool.stats.encode.calls == 120


def test_idle_clients_make_room_for_others(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pool = StreamPool(CODEC, 2, idle_s=30)
    older, newer = pool.join(), pool.join()
    now[0] += 29
    newer.encode(np.zeros(10, np.float32))
    with pytest.raises(CapacityError, match="all 2 places"):
        pool.join()
    now[0] += 2  # the older one is idle for 31 s
    third = pool.join()
    assert pool.clients == 2
    with pytest.raises(WaveError, match="ended"):
        older.encode(np.zeros(10, np.float32))
    newer.encode(np.zeros(10, np.float32))
    now[0] += 1000
    assert pool.clients == 2  # nobody needs their places
    third.encode(np.zeros(10, np.float32))
    with pytest.raises(CapacityError, match="idle_s"):
        StreamPool(CODEC, 2, idle_s=0)


# --- what a person reads -------------------------------------------------------------------------


def test_what_is_printed_tells_what_it_is():
    session = CODEC.stream(batch_size=2, sample_rate=8000)
    session.encode(np.zeros((2, 4000), np.float32))
    assert repr(session) == (
        "StreamSession('tiny-fsq', 2 rows, 8000 Hz (as 16000 Hz), 1.00 s encoded, 0.00 s decoded)"
    )
    with CODEC.stream() as other:
        pass
    assert "ended, 1 row, 16000 Hz" in repr(other)
    pool = StreamPool(CODEC, 3)
    stream = pool.join()
    assert repr(pool) == "StreamPool('tiny-fsq', 1 of 3 places taken)"
    assert repr(stream).startswith("PoolStream(StreamSession('tiny-fsq', 1 row")
    stream.encode(synthetic_speech(3200))
    lines = str(pool.stats).splitlines()
    assert lines[0].startswith("encode: 1 calls, 10 frames, 0.20 s of audio in ")
    assert "× real time" in lines[0] and "p99" in lines[0]
    assert lines[1] == "decode: no calls"
    assert lines[2] == "algorithmic latency, encoder + decoder: 20 ms + 15 ms"
    pool.close()
    assert "closed" in repr(pool)
    waiting = AsyncStreamPool(CODEC, 1, 1)
    assert repr(waiting) == "AsyncStreamPool('tiny-fsq', 0 of 1 places taken)"
    assert repr(waiting.join()).startswith("AsyncPoolStream(StreamSession('tiny-fsq'")
