"""Many clients, in threads and in tasks."""

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from syllabary import Tokens
from syllabary.codecs.streaming import AsyncStreamPool, StreamPool, StreamSession
from syllabary.errors import CapacityError, StateError, TokenError, WaveError

from ... import tiny_codecs
from ...conftest import synthetic_speech

CODEC = tiny_codecs.rvq(encoder_look_ahead=1, decoder_look_ahead=2)
RATE = 16000


def speech(num_samples, seed=0):
    return torch.from_numpy(synthetic_speech(num_samples, seed))


def check(wave, parts, pcm):
    offline = CODEC.encode(wave, RATE)
    assert Tokens.concat(parts).equal(offline)
    assert torch.equal(torch.cat(pcm, 1), CODEC.decode(offline))


def talk(pool, seed):
    """A client's whole life."""
    wave = speech(6000 + 97 * seed, seed)
    with pool.join() as stream:
        parts, pcm = [], []
        for chunk in wave.split(200 + 31 * seed):
            parts.append(stream.encode(chunk))
            pcm.append(stream.decode(parts[-1]))
        end = stream.flush()
        check(wave, [*parts, end.tokens], [*pcm, end.wave])


def test_clients_in_threads_do_not_disturb_each_other():
    with StreamPool(CODEC, capacity=12) as pool, ThreadPoolExecutor(4) as threads:
        for _ in range(2):
            list(threads.map(lambda seed: talk(pool, seed), range(12)))
        assert pool.clients == 0
        stats = pool.stats
    frames = sum(-(-(6000 + 97 * seed) // 320) for seed in range(12))
    assert stats.encode.frames == stats.decode.frames == 2 * frames
    assert stats.encode.audio_seconds == stats.decode.audio_seconds


def test_a_full_pool_refuses_and_takes_another_when_one_has_left():
    with StreamPool(CODEC, capacity=2) as pool:
        first, _ = pool.join(), pool.join()
        with pytest.raises(CapacityError, match="all 2 places"):
            pool.join()
        first.leave()
        first.leave()
        assert pool.clients == 1
        third = pool.join()
        for call in (lambda: first.encode(speech(10)), first.flush, first.reset):
            with pytest.raises(WaveError, match="ended"):
                call()
        third.encode(speech(100))
    with pytest.raises(WaveError, match="ended"):
        third.encode(speech(100))
    with pytest.raises(CapacityError, match="closed"):
        pool.join()
    assert pool.clients == 0


def test_no_more_than_the_capacity_join_at_once():
    with StreamPool(CODEC, capacity=5) as pool:
        joined, barrier = [], threading.Barrier(16)

        def join():
            barrier.wait()
            try:
                joined.append(pool.join())
            except CapacityError:
                joined.append(None)

        threads = [threading.Thread(target=join) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(joined) == 16 and sum(client is not None for client in joined) == 5


def test_calls_of_one_client_wait_for_each_other(monkeypatch):
    with StreamPool(CODEC, capacity=1) as pool, ThreadPoolExecutor(4) as threads:
        stream, at_work, most = pool.join(), [], []
        original = stream._session.encode

        def encode(chunk, final):
            at_work.append(1)
            most.append(len(at_work))
            time.sleep(0.002)
            tokens = original(chunk, final=final)
            at_work.pop()
            return tokens

        monkeypatch.setattr(stream._session, "encode", encode)
        list(threads.map(stream.encode, [speech(100)] * 12))
        assert most == [1] * 12 and stream._session.samples_in == [1200]


def test_bad_pools():
    with pytest.raises(CapacityError, match="at least 1"):
        StreamPool(CODEC, capacity=0)
    with pytest.raises(TokenError, match="codebooks"):
        StreamPool(CODEC, capacity=1, num_codebooks=9)
    with pytest.raises(StateError):
        StreamPool(CODEC, capacity=1).join(b"nonsense")


def test_a_full_pool_reads_no_state_and_a_refused_one_frees_its_place():
    with StreamPool(CODEC, capacity=1) as pool:
        with pytest.raises(StateError):
            pool.join(b"nonsense")
        assert pool.clients == 0
        kept = pool.join()
        with pytest.raises(CapacityError, match="all 1 places"):
            pool.join(b"nonsense")
        kept.leave()


def test_a_client_moves_to_another_pool_and_begins_afresh():
    wave = speech(5000)
    here, there = (StreamPool(CODEC, 1, num_codebooks=2) for _ in range(2))
    stream = here.join()
    first = stream.encode(wave[:3001])
    moved = there.join(stream.export_state())
    rest = moved.encode(wave[3001:], final=True)
    offline = CODEC.encode(wave, RATE, num_codebooks=2)
    assert Tokens.concat([first, rest]).equal(offline)
    assert moved.state_bytes == stream.state_bytes > 0
    moved.reset()
    assert moved.encode(wave, final=True).equal(offline)
    assert moved.stats.encode.calls == 2


# --- asyncio -----------------------------------------------------------------------------------


async def talk_async(pool, seed):
    wave = speech(4000 + 97 * seed, seed)
    async with pool.join() as stream:
        parts, pcm = [], []
        for chunk in wave.split(200 + 31 * seed):
            parts.append(await stream.encode(chunk))
            pcm.append(await stream.decode(parts[-1]))
        end = await stream.flush()
        check(wave, [*parts, end.tokens], [*pcm, end.wave])


def test_tasks_do_not_disturb_each_other():
    async def main():
        async with AsyncStreamPool(CODEC, capacity=8, threads=3) as pool:
            await asyncio.gather(*(talk_async(pool, seed) for seed in range(8)))
            assert pool.clients == 0 and pool.stats.encode.calls > 100
            with pytest.raises(CapacityError):
                _ = [pool.join() for _ in range(9)]
        with pytest.raises(CapacityError, match="closed"):
            pool.join()

    asyncio.run(main())


def test_calls_that_overlap_keep_their_order():
    async def main():
        wave = speech(8000)
        async with AsyncStreamPool(CODEC, capacity=1, threads=4) as pool:
            stream = pool.join()
            parts = await asyncio.gather(*(stream.encode(chunk) for chunk in wave.split(100)))
            state = await stream.export_state()
            end = await stream.flush()
            assert Tokens.concat([*parts, end.tokens]).equal(CODEC.encode(wave, RATE))
            await stream.leave()
            again = pool.join(state)
            assert (await again.flush()).tokens.equal(end.tokens)

    asyncio.run(main())


def test_the_event_loop_goes_on_while_a_call_runs(monkeypatch):
    async def main():
        async with AsyncStreamPool(CODEC, capacity=1, threads=1) as pool:
            stream = pool.join()
            go_on = threading.Event()
            original = stream._stream.encode
            monkeypatch.setattr(stream._stream, "encode", lambda *a: (go_on.wait(), original(*a)))
            work = asyncio.create_task(stream.encode(speech(10)))
            for _ in range(5):
                await asyncio.sleep(0.001)
            assert not work.done()
            go_on.set()
            await work

    asyncio.run(main())


def test_a_cancelled_call_is_not_forgotten(monkeypatch):
    async def main():
        wave = speech(2000)
        async with AsyncStreamPool(CODEC, capacity=1, threads=2) as pool:
            stream = pool.join()
            go_on = threading.Event()
            original = stream._stream.encode
            with monkeypatch.context() as patch:
                patch.setattr(stream._stream, "encode", lambda *a: (go_on.wait(), original(*a))[1])
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(stream.encode(speech(900)), 0.02)
            with pytest.raises(WaveError, match="cancelled; reset it or leave"):
                await stream.encode(wave)
            threading.Timer(0.05, go_on.set).start()
            begun = time.perf_counter()
            await stream.reset()
            # The reset came after the call, or its samples would be in front of these.
            assert time.perf_counter() - begun > 0.01
            assert (await stream.encode(wave, final=True)).equal(CODEC.encode(wave, RATE))

    asyncio.run(main())


def test_states_are_read_in_a_thread(monkeypatch):
    readers = []
    original = StreamSession.import_row

    def import_row(session, row, data):
        readers.append(threading.current_thread())
        original(session, row, data)

    monkeypatch.setattr(StreamSession, "import_row", import_row)

    async def main():
        wave = speech(5000)
        async with AsyncStreamPool(CODEC, capacity=2, threads=1) as pool:
            async with pool.join() as stream:
                first = await stream.encode(wave[:3001])
                state = await stream.export_state()
            async with pool.join(state) as stream:
                assert len(readers) == 1
                rest = await stream.encode(wave[3001:], final=True)
            assert Tokens.concat([first, rest]).equal(CODEC.encode(wave, RATE))
            with pytest.raises(StateError):
                async with pool.join(b"nonsense"):
                    raise AssertionError("entered")
            stream = pool.join(b"nonsense")
            assert pool.clients == 1
            with pytest.raises(StateError):
                await stream.encode(wave)
            assert pool.clients == 0
            with pytest.raises(WaveError, match="ended"):
                await stream.encode(wave)
            _ = [pool.join(), pool.join()]
            with pytest.raises(CapacityError, match="all 2 places"):
                pool.join(state)

    asyncio.run(main())
    assert len(readers) == 3 and threading.main_thread() not in readers


def test_a_cancelled_entry_frees_its_place(monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(StreamSession, "import_row", lambda *arguments: go_on.wait())

    async def enter(pool):
        async with pool.join(b"state"):
            raise AssertionError("entered")

    async def main():
        async with AsyncStreamPool(CODEC, capacity=1, threads=1) as pool:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(enter(pool), 0.02)
            go_on.set()
            while pool.clients:
                await asyncio.sleep(0.001)

    asyncio.run(main())


def test_a_closed_pool_says_so_and_bad_threads_too(monkeypatch):
    async def main():
        pool = AsyncStreamPool(CODEC, capacity=2, threads=1)
        stream, other = pool.join(), pool.join()
        await stream.encode(speech(100))
        await pool.close()
        for call in (stream.flush, other.reset, stream.export_state, lambda: other.encode([0.0])):
            with pytest.raises(WaveError, match="closed"):
                await call()
        await stream.leave()
        await pool.close()

    asyncio.run(main())
    monkeypatch.setattr(CODEC, "encode", None)  # which a pool's warm-up would call
    for threads in (0, -1):
        with pytest.raises(CapacityError, match="threads must be at least 1"):
            AsyncStreamPool(CODEC, capacity=1, threads=threads)


def test_nobody_is_told_how_a_cancelled_call_failed():
    told = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        async with AsyncStreamPool(CODEC, capacity=1, threads=1) as pool:
            stream, go_on = pool.join(), threading.Event()
            stream._stream.encode = lambda *arguments: (go_on.wait(), 1 / 0)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(stream.encode(speech(10)), 0.02)
            go_on.set()

    asyncio.run(main())
    gc.collect()
    assert not told
