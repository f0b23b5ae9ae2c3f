"""Rows of parts of documents are what `Pattern.lay` gives for the whole."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.errors import DatasetError
from syllabary.lm import Vocabulary, pattern
from syllabary.lm.dataset import Item, write_dataset
from syllabary.lm.loading.filling import layout_of
from syllabary.lm.loading.mixture import Mixture
from syllabary.lm.loading.packing import concatenated
from syllabary.lm.loading.samples import Samples, Source
from syllabary.lm.loading.store import store_of

from ..conftest import token_spec
from .conftest import expected

SIZES = (64, 128, 32)
PATTERNS = [
    pattern("parallel", SIZES),
    pattern("parallel", SIZES, start=0),
    pattern("delay", SIZES),
    pattern("delay", SIZES, delays=[0, 5, 2], cut=True),
    pattern("flatten", SIZES),
    pattern("flatten", SIZES, groups=[0, 1, 1]),
    pattern("flatten", SIZES[:1]),
    pattern("flatten", SIZES, streams_of="each", start=2),
    pattern("coarse-first", SIZES, delays=[1, 0]),
    pattern("musiclm", SIZES[:2]),
    pattern("vall-e", SIZES),
    pattern("depth", SIZES),
    pattern("moshi", SIZES),
    pattern("espnet", SIZES),
    pattern("step-audio", (64, 64, 128, 128, 128)),
]


@pytest.fixture(scope="module")
def store_with(tmp_path_factory):
    kept = {}

    def make(sizes):
        if sizes not in kept:
            spec, rng = token_spec(sizes), np.random.default_rng(3)
            items = []
            for number in range(12):
                codes = np.stack([rng.integers(0, size, number * 3 % 17) for size in sizes])
                samples = codes.shape[1] * spec.hop
                items.append(Item(f"{number:02}", codes.astype(np.uint16), samples))
            data = write_dataset(tmp_path_factory.mktemp("s") / "s", items, spec)
            kept[sizes] = store_of(data), items
        return kept[sizes]

    return make


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(PATTERNS), st.booleans(), st.booleans(), st.integers(1, 40), st.booleans())
def test_any_part_of_any_pattern(store_with, chosen, begin, end, context, bound):
    store, items = store_with(chosen.sizes)
    if bound:
        chosen = Vocabulary(token_spec(chosen.sizes), first=5000).bind(chosen)
    begin, end = 9001 if begin else None, 9002 if end else None
    layout = layout_of(chosen, begin, end)

    def plan(source):
        return concatenated(np.arange(len(items)), source.lengths(), context)

    source = Source(store, layout, plan)
    samples = Samples([source], Mixture((1.0,), 0), context)
    rows = samples.rows(np.arange(len(source.plan)))
    documents = [expected(chosen, item, begin, end) for item in items]
    at, last = 0, 0
    for slot, source_number, item, start, stop in rows.parts.tolist():
        at = at if slot == last else 0
        count, last = stop - start, slot
        ids, targets = documents[item]
        here = slice(at, at + count)
        assert source_number == 0
        assert (rows.ids[slot, :, here] == ids[:, start:stop]).all()
        assert (rows.targets[slot, :, here] == targets[:, start:stop]).all()
        assert (rows.positions[slot, here] == np.arange(count)).all()
        at += count
    assert (rows.ids[-1, :, at:] == np.array(chosen.specials)[:, None]).all()
    assert (rows.targets[-1, :, at:] == -100).all()
    assert rows.lengths.sum() == sum(
        documents[number][0].shape[1] for number, item in enumerate(items) if item.frames
    )
    for number, item in enumerate(items):
        ids, targets = samples.document(0, number)
        if item.frames:
            assert (ids == documents[number][0]).all() and (targets == documents[number][1]).all()
        else:
            assert ids.shape[1] == 0


def test_global_codes_come_first(tmp_path):
    spec = token_spec((64, 32), global_codebook_sizes=(16, 8))
    rng = np.random.default_rng(0)
    items = [
        Item(
            str(n), rng.integers(0, 32, (2, n + 1)).astype(np.uint16), (n + 1) * spec.hop,
            global_codes=np.array([n, n % 8], np.uint16),
        )
        for n in range(9)
    ]  # fmt: skip
    store = store_of(write_dataset(tmp_path / "s", items, spec))
    vocabulary = Vocabulary(spec, first=100)
    flat = vocabulary.bind(pattern("flatten", (64, 32)))
    layout = layout_of(flat, begin=7, heads=vocabulary.global_base)
    source = Source(store, layout, lambda s: concatenated(np.arange(9), s.lengths(), 64))
    samples = Samples([source], Mixture((1.0,), 0), 64)
    for number, item in enumerate(items):
        ids, targets = samples.document(0, number)
        (want,) = vocabulary.encode(item.tokens(spec))
        assert ids[0].tolist() == [7, *want.tolist()]
        assert targets[0].tolist() == [*want.tolist(), -100]
    with pytest.raises(DatasetError, match="take a pattern of one stream"):
        layout_of(replace(pattern("delay", (64, 32))), heads=(1, 2))


def test_many_codes(tmp_path):
    """Codebooks of over 65,536 codes are stored in uint32."""
    spec = token_spec((100_000,))
    codes = np.array([[99_999, 0, 65_536]], np.uint32)
    store = store_of(write_dataset(tmp_path / "s", [Item("a", codes, 3 * spec.hop)], spec))
    source = Source(
        store, layout_of(pattern("flatten", (100_000,))), lambda s: concatenated(
            np.arange(1), s.lengths(), 4)
    )  # fmt: skip
    rows = Samples([source], Mixture((1.0,), 0), 4).rows(np.array([0]))
    assert rows.ids[0, 0].tolist() == [99_999, 0, 65_536, 100_000]
    assert rows.targets[0, 0].tolist() == [0, 65_536, -100, -100]
