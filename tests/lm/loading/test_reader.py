"""The sequence of samples, for any number of ranks and workers, and what is refused."""

import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from syllabary import lm
from syllabary.errors import DatasetError, TokenMismatchError, VocabularyError
from syllabary.lm.dataset import open_dataset, write_dataset

from ..conftest import token_spec
from .conftest import expected

SIZES = (64, 128, 32)


def fingerprints(batches):
    """Each row of each batch as bytes."""
    return [row.numpy().tobytes() for batch in batches for row in batch.ids]


def take(reader, count):
    found = []
    for batch in reader:
        found.append(batch)
        if len(found) == count:
            return found
    return found


@pytest.mark.parametrize("packing", ["best-fit", "concatenate", "by-length"])
@pytest.mark.parametrize(("name", "begin"), [("flatten", None), ("delay", "<|speech_start|>")])
def test_an_epoch_has_every_step_once(made, vocabulary, packing, name, begin):
    folder, items = made()
    pattern = lm.pattern(name, SIZES)
    reader = lm.reader(
        folder, pattern, vocabulary, context=100, packing=packing, batch=3, begin=begin, epochs=1
    )
    laid = [
        expected(vocabulary.bind(pattern), item, begin and vocabulary.marker(begin))
        for item in items
    ]
    seen = [np.zeros(ids.shape[1], int) for ids, _ in laid]
    for batch in reader:
        ids = batch.ids if batch.ids.ndim == 3 else batch.ids[:, None]
        targets = batch.targets if batch.targets.ndim == 3 else batch.targets[:, None]
        at = dict.fromkeys(range(len(ids)), 0)
        for row, _, item, start, stop in batch.parts.tolist():
            here = slice(at[row], at[row] + stop - start)
            assert (ids[row, :, here].numpy() == laid[item][0][:, start:stop]).all()
            assert (targets[row, :, here].numpy() == laid[item][1][:, start:stop]).all()
            seen[item][start:stop] += 1
            at[row] += stop - start
        assert list(at.values()) == batch.lengths.tolist()
        assert batch.ids.shape[-1] == 100 or (packing == "by-length" and len(ids) <= 3)
    for times, item in zip(seen, items, strict=True):
        assert (times == (1 if item.frames else 0)).all()


def test_sequences_of_a_batch(made, vocabulary):
    folder, _ = made()
    batch = take(lm.reader(folder, None, vocabulary, context=128, batch=4), 1)[0]
    bounds = batch.cu_seqlens.tolist()
    begins = torch.nonzero(batch.positions.reshape(-1) == 0)[:, 0].tolist()
    assert batch.cu_seqlens.dtype == torch.int32 and bounds == [*begins, 4 * 128]
    assert batch.max_seqlen == max(np.diff(bounds))
    numbers = batch.documents()
    assert [(row == -1).sum().item() for row in numbers] == (128 - batch.lengths).tolist()
    mask = batch.mask()[:, 0]
    for row in range(4):
        for one, other in ((0, 0), (5, 3), (3, 5), (127, 0), (60, 20)):
            same = numbers[row, one] == numbers[row, other]
            assert mask[row, one, other] == (same and other <= one)
    assert batch.to(torch.int32).ids.dtype == torch.int32


@pytest.mark.parametrize("packing", ["best-fit", "concatenate", "by-length"])
def test_ranks_and_workers_share_one_sequence(made, vocabulary, packing):
    """All rows in order, read by one; by three ranks; by two workers on each of two ranks."""
    folder, _ = made()
    settings = {"context": 64, "packing": packing, "seed": 5}
    settings |= {"tokens": 256} if packing == "by-length" else {"batch": 2}
    alone = take(lm.reader(folder, None, vocabulary, **settings), 24)
    positions = alone[-1].next
    for ranks, workers in ((3, 0), (2, 2)):
        steps = -(-24 // ranks)
        of_rank = []
        for rank in range(ranks):
            reader = lm.reader(folder, None, vocabulary, rank=rank, ranks=ranks, **settings)
            loader = DataLoader(reader, batch_size=None, num_workers=workers)
            of_rank.append(take(loader, steps))
        together = [of_rank[rank][step] for step in range(steps) for rank in range(ranks)]
        assert fingerprints(together)[: len(fingerprints(alone))] == fingerprints(alone)
        assert {batches[-1].next for batches in of_rank} == {positions}


def test_going_on_with_other_ranks_and_rows(made, vocabulary):
    """Four ranks of two rows, stopped after any step, go on as three ranks of five rows."""
    folder, _ = made()
    settings = {"context": 64, "seed": 1}
    whole = fingerprints(take(lm.reader(folder, None, vocabulary, batch=1, **settings), 150))
    four = [
        take(lm.reader(folder, None, vocabulary, batch=2, rank=r, ranks=4, **settings), 7)
        for r in range(4)
    ]
    for step in (1, 4, 7):
        seen = [row for s in range(step) for r in range(4) for row in fingerprints([four[r][s]])]
        position = four[2][step - 1].next
        assert position == step * 8 and seen == whole[:position]
        three = [
            take(
                lm.reader(
                    folder, None, vocabulary, batch=5, rank=r, ranks=3, position=position,
                    **settings,
                ),
                4,
            )
            for r in range(3)
        ]  # fmt: skip
        seen += [row for s in range(4) for r in range(3) for row in fingerprints([three[r][s]])]
        assert seen == whole[: len(seen)]


def test_any_sample_by_itself(made, vocabulary):
    folder, items = made()
    pattern = lm.pattern("delay", SIZES)
    reader = lm.reader(folder, pattern, vocabulary, context=64, batch=1)
    count = reader.num_samples
    in_order = fingerprints(take(reader, 2 * count + 3))
    for position in (0, 5, count - 1, count, 2 * count + 2):
        assert fingerprints([reader[position]]) == [in_order[position]]
        assert fingerprints(take(reader.at(position), 1)) == [in_order[position]]
    assert in_order[:count] != in_order[count : 2 * count]
    assert sorted(in_order[:count]) == sorted(in_order[count : 2 * count])
    number = next(n for n, item in enumerate(items) if item.frames)
    ids, _ = reader.document(number)
    assert (ids.numpy() == expected(vocabulary.bind(pattern), items[number])[0]).all()


def test_the_seed_is_the_order(made, vocabulary):
    folder, _ = made()
    first, again, other, plain = (
        fingerprints(take(lm.reader(folder, None, vocabulary, context=64, **more), 5))
        for more in ({}, {}, {"seed": 1}, {"shuffle": False})
    )
    assert first == again and first != other and first != plain
    reader = lm.reader(folder, None, vocabulary, context=64, packing="concatenate", shuffle=False)
    items = take(reader, 1)[0].parts[:, 2].tolist()
    assert items == sorted(items)


def test_a_copy_in_another_process_gives_the_same(made, vocabulary):
    folder, _ = made()
    reader = lm.reader(folder, None, vocabulary, context=64)
    before = fingerprints(take(reader, 3))
    packed = pickle.dumps(reader)
    assert len(packed) < 100_000
    assert fingerprints(take(pickle.loads(packed), 3)) == before


PROGRAM = """
import sys
from torch.utils.data import DataLoader
from syllabary import lm
folder, log, state, rank, ranks, workers, base = sys.argv[1:]
import pathlib
state = pathlib.Path(state)
spec_from = lm.reader  # the vocabulary is of the data set's own spec
from syllabary.lm.dataset import open_dataset
vocabulary = lm.Vocabulary(open_dataset(folder).spec, first=int(base))
position = int(state.read_text()) if state.exists() else 0
reader = lm.reader(folder, None, vocabulary, context=64, batch=2, seed=3, position=position,
                   rank=int(rank), ranks=int(ranks))
for batch in DataLoader(reader, batch_size=None, num_workers=int(workers)):
    with open(log, "a") as file:
        for place, row in enumerate(batch.ids):
            number = batch.next - (int(ranks) - int(rank)) * 2 + place
            file.write(f"{number} {hash(tuple(row.tolist()))}\\n")
    temporary = state.with_suffix(".new")
    temporary.write_text(str(batch.next))
    temporary.replace(state)
    print(batch.next, flush=True)
"""


def test_killed_and_gone_on_with(made, vocabulary, tmp_path):
    """kill -9 after some steps, twice, with other numbers of ranks and workers: no sample is left
    out, and all are those of the uninterrupted sequence."""
    folder, _ = made()
    lm.reader(folder, None, vocabulary, context=64)  # the flat file
    log, state = tmp_path / "log", tmp_path / "state"
    for ranks, workers, steps in ((1, 0, 3), (1, 2, 4), (2, 1, 3)):
        begun = state.read_text() if state.exists() else "0"
        for rank in range(ranks):
            own = tmp_path / f"state-{rank}"
            own.write_text(begun)
            arguments = [folder, log, own, rank, ranks, workers, 1000]
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *map(str, arguments)],
                stdout=subprocess.PIPE, env=os.environ, start_new_session=True,
            )  # fmt: skip
            for _ in range(steps):
                assert process.stdout.readline()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
        # Ranks checkpoint together: what all have done.
        done = min(int((tmp_path / f"state-{rank}").read_text()) for rank in range(ranks))
        state.write_text(str(done))
    found = {}
    for line in log.read_text().splitlines():
        number, value = map(int, line.split())
        assert found.setdefault(number, value) == value
    total = int(state.read_text())
    alone = take(lm.reader(folder, None, vocabulary, context=64, batch=1, seed=3), total)
    assert total >= 26
    assert [found[n] for n in range(total)] == [hash(tuple(b.ids[0].tolist())) for b in alone]


def test_a_mixture_has_its_shares(made, vocabulary):
    first, _ = made()
    second, _ = made(40, seed=9)
    reader = lm.reader({first: 3, second: 1}, None, vocabulary, context=64, batch=64)
    batches = take(reader, 64)
    sources = np.concatenate([np.unique(b.parts[:, :2].numpy(), axis=0)[:, 1] for b in batches])
    assert (sources == 0).sum() == 3072 and (sources == 1).sum() == 1024
    batch = take(reader.at(1234), 1)[0]
    items = {source: open_dataset(folder) for source, folder in enumerate((first, second))}
    pattern = vocabulary.bind(lm.pattern("flatten", SIZES))
    at = dict.fromkeys(range(64), 0)
    for row, source, item, start, stop in batch.parts.tolist():
        ids, _ = expected(pattern, items[source][item])
        assert (
            batch.ids[row, at[row] : at[row] + stop - start].numpy() == ids[0, start:stop]
        ).all()
        at[row] += stop - start
    assert fingerprints([reader[1240]]) == fingerprints([batch])[6:7]


def test_the_end_of_epochs(made, vocabulary):
    folder, _ = made()
    reader = lm.reader(folder, None, vocabulary, context=64, batch=4, epochs=2)
    batches = list(reader)
    total = 2 * reader.num_samples
    assert sum(len(batch.ids) for batch in batches) == total == batches[-1].next
    assert list(reader.at(total)) == []
    ranks = [
        list(lm.reader(folder, None, vocabulary, context=64, batch=4, epochs=2, rank=r, ranks=3))
        for r in range(3)
    ]
    assert sum(len(batch.ids) for of_rank in ranks for batch in of_rank) == total
    with pytest.raises(IndexError):
        reader[total]


@pytest.mark.parametrize("batch", range(1, 9))
def test_ranks_that_take_equally_many_steps(made, vocabulary, batch):
    folder, _ = made()
    given = {"context": 64, "batch": batch, "epochs": 1, "ranks": 3}
    left, full = (
        [
            list(lm.reader(folder, None, vocabulary, **given, rank=rank, drop_last=drop))
            for rank in range(3)
        ]
        for drop in (False, True)
    )
    total = sum(len(one.ids) for of_rank in left for one in of_rank)
    assert {len(of_rank) for of_rank in full} == {total // (3 * batch)}
    for of_rank, all_of_it in zip(full, left, strict=True):
        assert fingerprints(of_rank) == fingerprints(all_of_it[: len(of_rank)])
        assert all(len(one.ids) == batch for one in of_rank)
    assert len(left[0]) == -(-total // (3 * batch))


def test_budgets(made, vocabulary):
    folder, _ = made()
    assert take(lm.reader(folder, None, vocabulary, context=64, tokens=300), 1)[0].ids.shape[0] == 4
    reader = lm.reader(folder, None, vocabulary, context=64, packing="by-length", tokens=320)
    shapes = {tuple(batch.ids.shape) for batch in take(reader, 30)}
    assert all(rows * steps <= 320 and steps % 8 == 0 for rows, steps in shapes)
    assert len({rows for rows, _ in shapes}) > 1
    # No row is longer than the context, whatever it is padded to.
    for multiple in (8, 48):
        reader = lm.reader(
            folder, None, vocabulary, context=61, packing="by-length", tokens=320, multiple=multiple
        )
        shapes = {tuple(batch.ids.shape) for batch in take(reader, 30)}
        assert all(rows * steps <= 320 for rows, steps in shapes)
        assert {steps for _, steps in shapes if steps % multiple} == {61}


def test_only_one_split(made, vocabulary):
    folder, items = made()
    valid = [item for item in items if item.split == "valid"]
    for given in (folder, open_dataset(folder)):
        reader = lm.reader(given, None, vocabulary, context=64, split="valid", epochs=1)
        assert sum(int(b.lengths.sum()) for b in reader) == 3 * sum(i.frames for i in valid)


def test_codes_as_they_are(made):
    folder, items = made()
    reader = lm.reader(folder, lm.pattern("delay", SIZES[:2]), context=64, epochs=1)
    ids, _ = reader.document(1)
    assert (ids.numpy() == lm.pattern("delay", SIZES[:2]).lay(items[1].codes[:2])[0]).all()


def test_ranks_of_torchrun(made, vocabulary, monkeypatch):
    folder, _ = made()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    reader = lm.reader(folder, None, vocabulary)
    assert (reader.rank, reader.ranks) == (1, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"packing": "tight"}, "expected one of best-fit"),
        ({"context": 0}, "context must be 1 or more"),
        ({"batch": 2, "tokens": 5000}, "not both"),
        ({"tokens": 100}, "less than one row"),
        ({"rank": 2, "ranks": 2}, "rank 2 of 2"),
        ({"rank": 1}, "together"),
        ({"position": -1}, "begins at 0"),
        ({"split": "test"}, "no split 'test'; it has train, valid"),
        ({"begin": "<|nothing|>"}, "no marker '<|nothing|>'"),
    ],
)
def test_bad_settings(made, vocabulary, settings, message):
    folder, _ = made()
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        lm.reader(folder, None, vocabulary, **settings)


def test_what_does_not_fit(made, vocabulary, tmp_path):
    folder, items = made()
    other = replace(vocabulary.spec, digest="cd" * 32)
    with pytest.raises(TokenMismatchError, match=r"set.*encode with the tokenizer"):
        lm.reader(folder, None, lm.Vocabulary(other, first=1000))
    with pytest.raises(VocabularyError, match=r"delay.*\[64, 128\].*\[64, 128, 32\]"):
        lm.reader(folder, lm.pattern("delay", SIZES[:2]), vocabulary)
    with pytest.raises(VocabularyError, match=r"\[64, 64\].*\[64, 128, 32\]"):
        lm.reader(folder, lm.pattern("delay", (64, 64)))
    fewer, _ = made(codebooks=2)
    with pytest.raises(VocabularyError, match="build it with --codebooks 3, or take"):
        lm.reader(fewer, None, vocabulary)
    with pytest.raises(DatasetError, match="no data set"):
        lm.reader(tmp_path, None, vocabulary)
    with pytest.raises(DatasetError, match="a mixture ends"):
        lm.reader({folder: 1, fewer: 1}, None, epochs=1)
    empty = [replace(item, codes=item.codes[:, :0], num_samples=0) for item in items[:3]]
    write_dataset(tmp_path / "empty", empty, vocabulary.spec)
    with pytest.raises(DatasetError, match="nothing to read"):
        lm.reader(tmp_path / "empty", None, vocabulary)


def test_codes_that_no_codebook_has(made, vocabulary, tmp_path):
    """A set whose shards hold more than its spec says: as no writer of ours makes one."""
    import json

    wide = token_spec((128, 128, 128))
    folder, items = tmp_path / "set", made(sizes=(128, 128, 128))[1]
    write_dataset(folder, items, wide)
    data = open_dataset(folder)
    from syllabary.lm.loading.opening import check_codes
    from syllabary.lm.loading.store import store_of

    with pytest.raises(VocabularyError, match=r"code 1\d\d of codebook 0, which has 64:"):
        check_codes(data, store_of(data), lm.pattern("flatten", SIZES))
    assert json.loads((folder / "dataset.json").read_text())["digest"]
