"""Chat templates with speech as content.

Speech has thousands of names, and a template is text. So each piece of speech goes through the
template and the tokenizer as one of its tokens, and its ids take that token's place afterwards: the
same ids as if the tokenizer had read all names, at no cost.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from ...errors import InterleavingError
from ..arrays import Array
from ..vocabulary import Vocabulary
from .sequence import IGNORE, MARKER, SPEECH, TEXT, Interleaved

Messages = Sequence[Mapping[str, Any]]
Render = Callable[[list[dict[str, str]], bool], str]

#: ChatML, of Qwen and others.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat(
    messages: Messages,
    tokenizer: Any,
    vocabulary: Vocabulary,
    template: str | Render | None = None,
    *,
    begin: str | None = None,
    end: str | None = None,
    learn: Sequence[str] = ("assistant",),
    add_generation_prompt: bool = False,
) -> Interleaved:
    """A conversation as ids.

        chat([{"role": "user", "content": [
                  {"type": "text", "text": "What does she say? "},
                  {"type": "speech", "ids": vocabulary.encode(tokens)[0]}]},
              {"role": "assistant", "content": "Good morning."}], tokenizer, vocabulary)

    Args:
        messages: each with a role, and content that is text or a list of pieces: ``{"type": "text",
            "text": …}``, or ``{"type": "speech", "ids": …}`` with ids (n,), or codes that one
            pattern flattened.
        tokenizer: of Hugging Face, from `tokenizers` or `transformers`, that has the vocabulary
            (`write_tokenizer`).
        vocabulary: of the speech.
        template: a Jinja template, or a function of messages (whose content is text) and
            ``add_generation_prompt``; default: the one of a `transformers` tokenizer.
        begin, end: names of markers around each piece of speech.
        learn: roles whose messages are learned.
        add_generation_prompt: end with what comes before an answer.

    Raises:
        InterleavingError: no messages, unknown pieces, text that spells tokens of speech, a
            template that doesn't let a message's place be known, or a tokenizer without the
            vocabulary.
    """
    if not messages:
        raise InterleavingError("there are no messages")
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    holder = vocabulary.name(vocabulary.speech[0])
    if backend.token_to_id(holder) != vocabulary.speech[0]:
        raise InterleavingError(
            f"this tokenizer has id {backend.token_to_id(holder)} for {holder!r}, not "
            f"{vocabulary.speech[0]}: load the one that write_tokenizer wrote with this vocabulary"
        )
    around = [vocabulary.name(vocabulary.marker(name)) if name else "" for name in (begin, end)]
    pieces: list[np.ndarray] = []
    plain = [
        {
            "role": str(message.get("role")),
            "content": _text_of(message, vocabulary, holder.join(around), pieces),
        }
        for message in messages
    ]
    render = _renderer(template, tokenizer)
    text = render(plain, add_generation_prompt)
    encoding = backend.encode(text, add_special_tokens=False)
    ids = np.array(encoding.ids, np.int64)
    places = np.flatnonzero(ids == vocabulary.speech[0])
    if len(places) != len(pieces):
        raise InterleavingError(
            f"the template wrote {len(places)} of {len(pieces)} pieces of speech: it must write "
            "each message's content once"
        )
    learned = _learned(plain, render, text, np.array(encoding.offsets).reshape(-1, 2), learn)
    return _spliced(ids, learned, places, pieces, vocabulary, backend)


def _text_of(
    message: Mapping[str, Any], vocabulary: Vocabulary, holder: str, pieces: list[np.ndarray]
) -> str:
    content = message.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, Sequence) or not content:
        raise InterleavingError(f"a message of {message.get('role')!r} has no content")
    texts = []
    for piece in content:
        kind = piece.get("type") if isinstance(piece, Mapping) else None
        if kind == "text" and isinstance(piece.get("text"), str):
            texts.append(_checked_text(piece["text"], vocabulary))
        elif kind == "speech" and "ids" in piece:
            pieces.append(_checked_ids(piece["ids"], vocabulary))
            texts.append(holder)
        else:
            raise InterleavingError(
                "a piece of content is {'type': 'text', 'text': …} or {'type': 'speech', 'ids': …}"
                f", got {piece!r}"
            )
    return "".join(texts)


def _checked_text(text: str, vocabulary: Vocabulary) -> str:
    found = vocabulary._pattern.search(text)
    spelled = found[0] if found else next((m for m in vocabulary.markers or () if m in text), None)
    if spelled:
        raise InterleavingError(
            f"text spells {spelled!r}, which would become speech: remove it, or give it as a piece "
            "of type speech"
        )
    return text


def _checked_ids(ids: Array, vocabulary: Vocabulary) -> np.ndarray:
    given = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
    low, high = vocabulary.speech
    if given.ndim != 1 or not given.size or given.dtype.kind not in "iu":
        raise InterleavingError(
            f"speech must be ids of shape (n,), got {given.dtype} {given.shape}"
        )
    if given.min() < low or given.max() >= high:
        raise InterleavingError(
            f"speech has ids {given.min()} to {given.max()}; those of {vocabulary.spec.tokenizer} "
            f"are {low} to {high - 1}: Vocabulary.encode gives them"
        )
    return given.astype(np.int64)


def _renderer(template: str | Render | None, tokenizer: Any) -> Render:
    if template is None:
        if not hasattr(tokenizer, "apply_chat_template"):
            raise InterleavingError("this tokenizer has no chat template: give one, such as CHATML")
        return lambda messages, prompt: cast(
            str,
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt),
        )
    if callable(template):
        return template
    try:
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise InterleavingError("chat templates need Jinja: pip install 'syllabary[lm]'") from None
    try:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        made = environment.from_string(template)
    except TemplateError as error:
        raise InterleavingError(f"the chat template can't be read: {error}") from None

    def render(messages: list[dict[str, str]], prompt: bool) -> str:
        try:
            return str(made.render(messages=messages, add_generation_prompt=prompt))
        except TemplateError as error:
            raise InterleavingError(f"the chat template can't be filled in: {error}") from None

    return render


def _learned(
    messages: list[dict[str, str]],
    render: Render,
    text: str,
    offsets: np.ndarray,
    learn: Sequence[str],
) -> np.ndarray:
    """(ids,) bool: those of the messages of these roles, from after what prompts them."""
    learned = np.zeros(len(offsets), bool)
    for number, message in enumerate(messages):
        if message["role"] not in learn:
            continue
        answer = message["role"] == "assistant"
        before = render(messages[:number], answer) if number or answer else ""
        through = render(messages[: number + 1], False)
        if not text.startswith(through) or not through.startswith(before):
            raise InterleavingError(
                f"what this template writes for message {number} depends on those after it: learn "
                "only from templates that write message after message"
            )
        learned |= (offsets[:, 0] >= len(before)) & (offsets[:, 0] < len(through))
    return learned


def _spliced(
    ids: np.ndarray,
    learned: np.ndarray,
    places: np.ndarray,
    pieces: list[np.ndarray],
    vocabulary: Vocabulary,
    backend: Any,
) -> Interleaved:
    counts = np.ones(len(ids), np.int64)
    counts[places] = [len(piece) for piece in pieces]
    speech = np.repeat(np.isin(np.arange(len(ids)), places), counts)
    kinds = np.where(speech, SPEECH, TEXT).astype(np.int8)
    ids, learned = np.repeat(ids, counts), np.repeat(learned, counts)
    if pieces:
        ids[speech] = np.concatenate(pieces)
    # Special tokens of the template, and the vocabulary's markers.
    added = [i for i, t in backend.get_added_tokens_decoder().items() if t.special]
    kinds[np.isin(ids, added)] = MARKER
    targets = np.full(len(ids), IGNORE, np.int64)
    targets[:-1][learned[1:]] = ids[1:][learned[1:]]
    return Interleaved(ids, targets, kinds)
