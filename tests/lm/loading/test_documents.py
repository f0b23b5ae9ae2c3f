"""Text and speech in one sequence, through the reader."""

import shutil
import zlib
from dataclasses import replace

import numpy as np
import pytest

from syllabary import lm
from syllabary.errors import (
    DatasetError,
    InterleavingError,
    SyllabaryWarning,
    VocabularyError,
)
from syllabary.lm import AlignedWord, write_dataset

from ..conftest import text_tokenizer, token_spec
from ..dataset.made_up import made_up_items

SIZES = (64, 128)
SPEC = token_spec(SIZES)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Items that all have text, ids of it and word times; frames of 20 ms."""
    items = []
    for item in made_up_items(SPEC, 25, seed=4):
        words = tuple(
            AlignedWord(word, n / 4, n / 4 + 0.2, (n + 3, n + 4))
            for n, word in enumerate(("what", "does", "she", "say"))
        )
        ids = tuple(i for word in words for i in word.ids)
        text = "what does she say"
        items.append(replace(item, text=text, text_ids=ids, alignment=words, split="train"))
    folder = tmp_path_factory.mktemp("spoken") / "set"
    return folder, list(write_dataset(folder, items, SPEC))


@pytest.fixture
def vocabulary():
    return lm.Vocabulary(SPEC, first=1000)


def schemes(vocabulary):
    speech = vocabulary.speech
    begin, end = (vocabulary.marker(f"<|speech_{name}|>") for name in ("start", "end"))
    return {
        "then": lm.TextThenSpeech(speech, speech_begin=begin, speech_end=end, learn=("speech",)),
        "ratio": lm.FixedRatio(speech, n=2, m=3),
        "cosy": lm.CosyVoice(speech, begin=990, task=991, end=992, fill=993, n=2, m=4),
    }


@pytest.mark.parametrize("name", ["then", "ratio", "cosy"])
def test_documents_are_what_the_scheme_joins(spoken, vocabulary, name):
    folder, items = spoken
    scheme = schemes(vocabulary)[name]
    reader = lm.reader(folder, None, vocabulary, scheme=scheme, context=64, batch=4, epochs=1)
    pattern = vocabulary.bind(lm.pattern("flatten", SIZES))
    joined = []
    for number, item in enumerate(items):
        ids, targets = reader.document(number)
        if item.frames:
            speech = pattern.lay(item.codes)[0][0].reshape(-1, 2)
            joined.append(scheme.join(item.text_ids, speech))
            assert ids.tolist() == joined[-1].ids.tolist()
            assert targets.tolist() == joined[-1].targets.tolist()
        else:
            assert len(ids) == 0
    batches = list(reader)
    total = sum(len(one) for one in joined)
    assert sum(int(batch.lengths.sum()) for batch in batches) == total
    learned = sum(int((batch.targets != -100).sum()) for batch in batches)
    assert learned == sum(int(one.loss_mask.sum()) for one in joined)
    pad = vocabulary.marker("<|speech_pad|>")
    for batch in batches:
        for row, length in zip(batch.ids, batch.lengths.tolist(), strict=True):
            assert (row[length:] == pad).all()


def test_spans_of_words(spoken, vocabulary):
    folder, items = spoken
    scheme = lm.WordAligned(vocabulary.speech, frame_rate=50, text_marker=998, speech_marker=999)
    reader = lm.reader(folder, None, vocabulary, scheme=scheme, context=512)
    number = next(n for n, item in enumerate(items) if item.frames > 20)
    item = items[number]
    words = [lm.Word(word.ids, word.start, word.end) for word in item.alignment]
    speech = vocabulary.bind(lm.pattern("flatten", SIZES)).lay(item.codes)[0][0].reshape(-1, 2)
    spans = lm.draw_spans(4, zlib.crc32(item.id.encode()))
    want, _ = scheme.join(words, speech, spans)
    assert reader.document(number)[0].tolist() == want.ids.tolist()


def test_text_by_a_tokenizer(spoken, vocabulary, tmp_path):
    pytest.importorskip("tokenizers")
    folder, _ = spoken
    tokenizer = text_tokenizer("gpt-2")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    scheme = lm.TextThenSpeech(vocabulary.speech)
    for given in (tokenizer, tmp_path / "tokenizer.json"):
        reader = lm.reader(folder, None, vocabulary, scheme=scheme, text=given, context=256)
        ids, _ = scheme.split(reader.document(1)[0])
        assert tokenizer.decode(ids.tolist()) == "what does she say"
    with pytest.raises(DatasetError, match="no tokenizer can be read"):
        lm.reader(folder, None, vocabulary, scheme=scheme, text=tmp_path / "nothing.json")


def test_a_tokenizer_neither_cuts_nor_pads(spoken, vocabulary, tmp_path):
    """As its file may ask for, since it was used so."""
    pytest.importorskip("tokenizers")
    folder, _ = spoken
    tokenizer = text_tokenizer("gpt-2")
    whole = tokenizer.encode("what does she say", add_special_tokens=False).ids
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=40)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    scheme = lm.TextThenSpeech(vocabulary.speech)
    for given in (tokenizer, tmp_path / "tokenizer.json"):
        reader = lm.reader(folder, None, vocabulary, scheme=scheme, text=given, context=256)
        assert scheme.split(reader.document(1)[0])[0].tolist() == whole
    assert tokenizer.truncation and tokenizer.padding  # the caller's own stays what it is


def test_frames_of_another_rate_are_refused(spoken, vocabulary):
    folder, _ = spoken
    with pytest.raises(DatasetError, match=r"50 frames a second, but .* 25: give it frame_rate=50"):
        lm.reader(folder, None, vocabulary, scheme=lm.WordAligned(vocabulary.speech))


@pytest.mark.parametrize("kind", ["words", "text", "ids"])
def test_items_without_what_is_needed_are_left_out_and_said(spoken, vocabulary, tmp_path, kind):
    _, items = spoken
    full = [item for item in items if item.frames]
    lacking = {full[0].id: (), full[3].id: None}
    changed = [
        replace(
            item, text=None, text_ids=(5,) if kind == "ids" else None, alignment=lacking[item.id]
        )
        if item.id in lacking
        else item
        for item in items
    ]
    write_dataset(tmp_path / "set", changed, SPEC)
    scheme = lm.TextThenSpeech(vocabulary.speech)
    more = {}
    if kind == "words":
        scheme = lm.WordAligned(
            vocabulary.speech, frame_rate=50, text_marker=998, speech_marker=999
        )
    if kind == "ids":
        pytest.importorskip("tokenizers")
        more = {"text": text_tokenizer("gpt-2")}
    for _ in range(2):  # from the shards, and from the file beside them
        with pytest.warns(SyllabaryWarning, match=r"set: 2 of 25 items lack the text"):
            reader = lm.reader(tmp_path / "set", None, vocabulary, scheme=scheme, **more)
    lengths = [len(reader.document(number)[0]) for number in range(25)]
    empty = {item.id for item, length in zip(items, lengths, strict=True) if not length}
    assert empty == {item.id for item in items if not item.frames} | set(lacking)


def test_damaged_shards_are_not_read(spoken, vocabulary, tmp_path):
    """A bit of the codes that Parquet does not notice."""
    folder, _ = spoken
    shutil.copytree(folder, tmp_path / "set", ignore=shutil.ignore_patterns(".flat"))
    (shard,) = (tmp_path / "set").rglob("*.parquet")
    content = bytearray(shard.read_bytes())
    content[len(content) // 4] ^= 1
    shard.write_bytes(content)
    scheme = lm.TextThenSpeech(vocabulary.speech)
    with pytest.raises(DatasetError, match="it was changed or damaged"):
        lm.reader(tmp_path / "set", None, vocabulary, scheme=scheme)


def test_settings_make_other_documents(spoken, vocabulary):
    """Another scheme is another file beside the shards."""
    folder, _ = spoken
    before = set((folder / ".flat").glob("*.flat")) if (folder / ".flat").exists() else set()
    for n in (7, 8):
        lm.reader(folder, None, vocabulary, scheme=lm.FixedRatio(vocabulary.speech, n=n, m=9))
    assert len(set((folder / ".flat").glob("*.flat")) - before) == 2


def test_refused(spoken, vocabulary, tmp_path):
    folder, items = spoken
    scheme = lm.TextThenSpeech(vocabulary.speech)

    def refused(error, message, folder=folder, given=vocabulary, pattern=None, **more):
        with pytest.raises(error, match=message):
            lm.reader(folder, pattern, given, **{"scheme": scheme} | more)

    refused(VocabularyError, "need a vocabulary", given=None)
    refused(VocabularyError, "need a pattern of one stream", pattern=lm.pattern("delay", SIZES))
    refused(VocabularyError, "give the scheme Vocabulary.speech", scheme=lm.FixedRatio((5, 9)))
    refused(DatasetError, "are the scheme's", begin="<|speech_start|>")
    refused(DatasetError, "not by 3", scheme=3)
    silent = [replace(item, text=None, text_ids=None, alignment=None) for item in items]
    write_dataset(tmp_path / "silent", silent, SPEC)
    refused(DatasetError, r"item .* has no text, which text-then-speech", tmp_path / "silent")
    aligned = lm.WordAligned(vocabulary.speech, frame_rate=50)
    refused(DatasetError, "has no times of words", tmp_path / "silent", scheme=aligned)
    only_text = [replace(item, text_ids=None) for item in items]
    write_dataset(tmp_path / "text", only_text, SPEC)
    refused(DatasetError, "give text=, the text's tokenizer", tmp_path / "text")
    wrong = [replace(item, text_ids=(vocabulary.speech[0],)) for item in items]
    write_dataset(tmp_path / "wrong", wrong, SPEC)
    refused(InterleavingError, r"item .*: text has id .*, which is speech", tmp_path / "wrong")
    left = list((tmp_path / "wrong" / ".flat").iterdir())
    assert [path.suffix for path in left] == [".lock"]


def test_ids_are_read_back(spoken, vocabulary):
    folder, items = spoken
    scheme = schemes(vocabulary)["ratio"]
    reader = lm.reader(folder, None, vocabulary, scheme=scheme, context=2048)
    for number, item in enumerate(items):
        if item.frames:
            text, speech = scheme.split(reader.document(number)[0])
            assert text.tolist() == list(item.text_ids)
            tokens = vocabulary.decode([speech], num_samples=[item.num_samples])
            assert np.array_equal(tokens.codes[0].numpy(), item.codes)
