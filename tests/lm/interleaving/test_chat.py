"""Conversations with speech in them: the ids of the tokenizer that reads all names."""

import numpy as np
import pytest

from syllabary.errors import InterleavingError
from syllabary.lm import CHATML, Vocabulary, chat, first_free_id, write_tokenizer
from syllabary.lm.interleaving import IGNORE, MARKER, SPEECH, TEXT

from ..conftest import token_spec, tokens_of

tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")


@pytest.fixture(scope="module", params=["llama-3", "unigram always"])
def both(request, base_of, tmp_path_factory):
    base = base_of(request.param)
    vocabulary = Vocabulary(token_spec((50, 50)), first_free_id(base))
    out = tmp_path_factory.mktemp("chat")
    write_tokenizer(base, out, vocabulary)
    return tokenizers.Tokenizer.from_file(str(out / "tokenizer.json")), vocabulary


def speech(vocabulary, seed):
    return vocabulary.encode(tokens_of(vocabulary.spec, (4,), seed))[0]


def conversation(vocabulary):
    asked, answered = speech(vocabulary, 0), speech(vocabulary, 1)
    return [
        {"role": "system", "content": "It's a test."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this? "},
                {"type": "speech", "ids": asked},
                {"type": "text", "text": "hello"},
            ],
        },
        {"role": "assistant", "content": [{"type": "speech", "ids": answered}]},
    ]


def written_out(messages, vocabulary, begin="", end=""):
    """The same conversation with every name spelled."""
    text = ""
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            content = "".join(
                piece.get("text") or begin + vocabulary.text(piece["ids"]) + end
                for piece in content
            )
        text += f"<|im_start|>{message['role']}\n{content}<|im_end|>\n"
    return text


@pytest.mark.parametrize("marked", [False, True])
def test_the_ids_of_the_whole_text(both, marked):
    tokenizer, vocabulary = both
    messages = conversation(vocabulary)
    marks = ("<|speech_start|>", "<|speech_end|>") if marked else (None, None)
    made = chat(messages, tokenizer, vocabulary, CHATML, begin=marks[0], end=marks[1])
    text = written_out(messages, vocabulary, *(mark or "" for mark in marks))
    assert made.ids.tolist() == tokenizer.encode(text, add_special_tokens=False).ids
    low, high = vocabulary.speech
    assert np.array_equal(made.kinds == SPEECH, (made.ids >= low) & (made.ids < high))
    unknown = tokenizer.token_to_id("<unk>")  # a special token too, where text has it
    assert ((made.kinds == MARKER) & (made.ids != unknown)).sum() == 6 + 4 * marked
    assert (made.kinds == TEXT).any()


def test_only_answers_are_learned(both):
    tokenizer, vocabulary = both
    messages = conversation(vocabulary)
    made = chat(messages, tokenizer, vocabulary, CHATML)
    learned = made.targets[made.loss_mask]
    answer = messages[2]["content"][0]["ids"].tolist()
    assert learned[: len(answer)].tolist() == answer
    assert learned[len(answer)] == tokenizer.token_to_id("<|im_end|>")
    assert not np.isin(learned, messages[1]["content"][1]["ids"]).all()
    # What the first learned id is predicted from: the end of the prompt.
    prompt = chat(messages[:2], tokenizer, vocabulary, CHATML, add_generation_prompt=True)
    first = int(np.flatnonzero(made.loss_mask)[0])
    assert made.ids[: first + 1].tolist() == prompt.ids.tolist()
    assert (prompt.targets == IGNORE).all()
    every = chat(messages, tokenizer, vocabulary, CHATML, learn=("system", "user", "assistant"))
    assert every.loss_mask.sum() > made.loss_mask.sum()


def test_templates_of_transformers(both, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer, vocabulary = both
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHATML)
    messages = conversation(vocabulary)
    made = chat(messages, fast, vocabulary)
    expected = chat(messages, tokenizer, vocabulary, CHATML)
    assert np.array_equal(made.ids, expected.ids)
    assert np.array_equal(made.targets, expected.targets)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no messages"),
        ([{"role": "user", "content": []}], "no content"),
        ([{"role": "user"}], "no content"),
        ([{"role": "user", "content": [{"type": "image"}]}], "a piece of content is"),
        ([{"role": "user", "content": "x<|s0_3|>"}], r"text spells '<\|s0_3\|>'"),
        ([{"role": "user", "content": "<|speech_end|>"}], "text spells"),
        ([{"role": "user", "content": [{"type": "speech", "ids": []}]}], "shape"),
        ([{"role": "user", "content": [{"type": "speech", "ids": [3]}]}], "speech has ids 3 to 3"),
    ],
)
def test_messages_that_can_t_be(both, messages, message):
    tokenizer, vocabulary = both
    with pytest.raises(InterleavingError, match=message):
        chat(messages, tokenizer, vocabulary, CHATML)


def test_templates_that_can_t_be(both, base_of):
    tokenizer, vocabulary = both
    messages = conversation(vocabulary)
    for template, message in (
        ("{% for", "can't be read"),
        ("{{ nothing.at.all }}", "can't be filled in"),
        ("hello", "wrote 0 of 2 pieces"),
        ("{{ messages | length }}" + CHATML, "depends on those after it"),
        (None, "no chat template"),
    ):
        with pytest.raises(InterleavingError, match=message):
            chat(messages, tokenizer, vocabulary, template)
    other = tokenizers.Tokenizer.from_file(str(base_of("llama-3")))
    with pytest.raises(InterleavingError, match="load the one that write_tokenizer wrote"):
        chat(messages, other, vocabulary, CHATML)
