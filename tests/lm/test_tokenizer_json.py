"""Speech in a Hugging Face tokenizer: the same ids as ours, text as before, loaded at once."""

import json
import time

import numpy as np
import pytest

from syllabary.errors import TokenMismatchError, VocabularyError
from syllabary.lm import Vocabulary, first_free_id, read_vocabulary, write_tokenizer
from syllabary.lm.tokenizer_json import PROBES, read_vocabularies

from .conftest import CORPUS, token_spec, tokens_of

tokenizers = pytest.importorskip("tokenizers")

BUILDS = [
    "gpt-2",
    "llama-3",
    "smollm",
    "smollm runs",
    "gemma",
    "unigram always",
    "unigram first",
    "unigram never",
    "bert",
    "words",
]
TEXTS = [
    *CORPUS[:2],
    *PROBES,
    "",
    " ",
    "hello",
    " hello ",
    "\n",
    "<|s_",
    "<|s_01|>",
    "<|s_9999999|>",
]


def ids_of(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("build", BUILDS)
def test_the_same_ids_as_ours(build, base_of, tmp_path):
    spec = token_spec((65536,))
    base = base_of(build)
    vocabulary = Vocabulary(spec, first_free_id(base), naming="llasa")
    written = write_tokenizer(base, tmp_path, vocabulary)
    assert written.joins and not written.changed_words
    start = time.perf_counter()
    made = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert time.perf_counter() - start < 2
    old = tokenizers.Tokenizer.from_file(str(base))

    # Every name, in any order, and none of the text.
    every = np.random.default_rng(0).permutation(np.arange(*vocabulary.speech))
    assert ids_of(made, vocabulary.text(every)) == every.tolist()
    markers = "".join(vocabulary.markers)
    assert ids_of(made, markers) == [vocabulary.marker(name) for name in vocabulary.markers]
    for text in TEXTS:
        assert ids_of(made, text) == ids_of(old, text), text
    # Mixed, text beside speech is cut as beside any added token.
    old.add_tokens([tokenizers.AddedToken("<|s_5|>", normalized=False)])
    five, there = vocabulary.parse("<|s_5|>")[0], old.token_to_id("<|s_5|>")
    for a in TEXTS:
        for b in TEXTS[:6]:
            text = f"{a}<|s_5|>{b}<|s_5|><|s_5|>"
            expected = [five if i == there else i for i in ids_of(old, text)]
            assert ids_of(made, text) == expected, text
    assert made.get_vocab_size() == vocabulary.stop == written.size
    tokens = tokens_of(spec, (9,))
    (row,) = vocabulary.encode(tokens)
    assert made.decode(row.tolist()).replace(" ", "") == vocabulary.text(row)
    assert read_vocabulary(tmp_path, spec) == vocabulary


def test_several_codebooks_and_several_tokenizers(base_of, tmp_path):
    """Two vocabularies behind one text, a gap before them, saved and loaded by the library."""
    base = base_of("gpt-2")
    first = first_free_id(base) + 7
    rvq = Vocabulary(token_spec(), first, codebooks=3)
    units = Vocabulary(token_spec((500,), digest="cd", name="units"), rvq.stop, naming="slamkit")
    out = tmp_path / "tokenizer.json"
    write_tokenizer(base, out, rvq, units)
    made = tokenizers.Tokenizer.from_file(str(out))
    assert made.id_to_token(first - 1) == f"<|unused_{first - 1}|>"
    made.save(str(tmp_path / "again.json"))
    assert read_vocabularies(tmp_path / "again.json") == [rvq, units]
    assert read_vocabulary(out, units.spec) == units
    text = "hello" + rvq.text(range(*rvq.speech)) + units.text(range(*units.speech))
    assert ids_of(made, text)[-sum((1024 * 3, 500)) :] == [
        *range(*rvq.speech),
        *range(*units.speech),
    ]
    with pytest.raises(VocabularyError, match="give the spec of one"):
        read_vocabulary(out)


def test_transformers_reads_it(base_of, tmp_path):
    transformers = pytest.importorskip("transformers")
    base = base_of("llama-3")
    vocabulary = Vocabulary(token_spec((65536,)), first_free_id(base), naming="llasa")
    write_tokenizer(base, tmp_path, vocabulary)
    made = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert len(made) == vocabulary.stop
    some = [*range(vocabulary.speech[0], vocabulary.speech[1], 1000)]
    assert made(vocabulary.text(some), add_special_tokens=False)["input_ids"] == some
    made.save_pretrained(tmp_path / "saved")
    assert read_vocabulary(tmp_path / "saved" / "tokenizer.json") == vocabulary


def test_unigram_scores_of_text_stay(base_of, tmp_path):
    """The least score is what the unknown depends on."""
    base = base_of("unigram always")
    vocabulary = Vocabulary(token_spec((50,)), first_free_id(base), naming="slamkit")
    write_tokenizer(base, tmp_path, vocabulary)
    before, after = (
        json.loads(path.read_text())["model"]["vocab"]
        for path in (base, tmp_path / "tokenizer.json")
    )
    assert after[: len(before)] == before
    assert min(s for _, s in before) == min(s for _, s in after)


# --- refused -------------------------------------------------------------------------------------


def test_another_tokenizer_is_refused_by_name(base_of, tmp_path):
    base = base_of("gpt-2")
    vocabulary = Vocabulary(token_spec(name="rvq"), first_free_id(base))
    write_tokenizer(base, tmp_path, vocabulary)
    with pytest.raises(TokenMismatchError, match=r"of rvq \(abab.*not of other \(cdcd"):
        read_vocabulary(tmp_path, token_spec(digest="cd", name="other"))
    with pytest.raises(VocabularyError, match="no speech tokens of ours"):
        read_vocabulary(base)


def test_a_vocabulary_that_was_changed(base_of, tmp_path):
    base = base_of("gpt-2")
    vocabulary = Vocabulary(token_spec((8,)), first_free_id(base))
    write_tokenizer(base, tmp_path, vocabulary)
    path = tmp_path / "tokenizer.json"
    parts = json.loads(path.read_text())
    vocab = parts["model"]["vocab"]
    vocab["<|s0_1|>"], vocab["<|s0_2|>"] = vocab["<|s0_2|>"], vocab["<|s0_1|>"]
    path.write_text(json.dumps(parts))
    with pytest.raises(VocabularyError, match="was changed after"):
        read_vocabulary(path)


def test_taken_ids_and_names(base_of, tmp_path):
    base = base_of("gpt-2")
    free = first_free_id(base)
    out = tmp_path / "out.json"
    with pytest.raises(VocabularyError, match=f"let it begin with first={free}"):
        write_tokenizer(base, out, Vocabulary(token_spec(), free - 1))
    with pytest.raises(VocabularyError, match=r"a token '<\|im_end\|>' already"):
        write_tokenizer(base, out, Vocabulary(token_spec(), free, markers=("<|im_end|>",)))
    one = Vocabulary(token_spec(), free)
    with pytest.raises(VocabularyError, match="two of the vocabularies"):
        write_tokenizer(base, out, one, Vocabulary(token_spec(), one.stop))
    with pytest.raises(VocabularyError, match="overlap"):
        units = Vocabulary(token_spec((8,), digest="cd"), one.stop - 2, naming="slamkit")
        write_tokenizer(base, out, one, units)
    with pytest.raises(VocabularyError, match="give the vocabularies"):
        write_tokenizer(base, out)
    assert not out.exists()


def test_steps_that_change_names(base_of, tmp_path):
    """A normalizer that lowers letters, and a byte level that puts a space before each piece."""
    for build in ("unigram lower", "roberta"):
        base = base_of(build)
        vocabulary = Vocabulary(token_spec((8,)), first_free_id(base), naming="<Unit{code}>")
        with pytest.raises(VocabularyError, match=r"one piece|other ids than before"):
            write_tokenizer(base, tmp_path, vocabulary)
    assert not list(tmp_path.iterdir())


def test_text_that_begins_in_a_way_of_its_own(base_of, tmp_path):
    """Llama 2's normalizer prepends to the whole text, not to what follows speech."""
    base = base_of("llama-2")
    vocabulary = Vocabulary(token_spec((8,)), first_free_id(base))
    with pytest.raises(VocabularyError, match=r"beside an added token.*strict=False accepts"):
        write_tokenizer(base, tmp_path, vocabulary)
    assert not write_tokenizer(base, tmp_path, vocabulary, strict=False).joins
    made = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    old = tokenizers.Tokenizer.from_file(str(base))
    some = [*range(*vocabulary.speech)]
    assert ids_of(made, vocabulary.text(some)) == some
    assert all(ids_of(made, text) == ids_of(old, text) for text in TEXTS)


def test_words_that_no_merges_reach(base_of, tmp_path):
    """Byte tokens of sentencepiece: whole words are found now, and text might spell one."""
    parts = json.loads(base_of("gemma").read_text())
    parts["model"]["vocab"]["<0x0A>"] = max(parts["model"]["vocab"].values()) + 3
    base = tmp_path / "base.json"
    base.write_text(json.dumps(parts))
    vocabulary = Vocabulary(token_spec((8,)), first_free_id(base))
    with pytest.raises(VocabularyError, match=r"1 words .*'<0x0A>'"):
        write_tokenizer(base, tmp_path / "out.json", vocabulary)
    written = write_tokenizer(base, tmp_path / "out.json", vocabulary, strict=False)
    assert written.changed_words == ("<0x0A>",)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"model": {"vocab": 3}}', '{"model":{"vocab":[1]}}']
)
def test_what_is_no_tokenizer(text, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(VocabularyError, match=r"tokenizer\.json"):
        first_free_id(tmp_path)
    with pytest.raises(VocabularyError, match="No such file"):
        first_free_id(tmp_path / "nowhere.json")
