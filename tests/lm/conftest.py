"""Small text tokenizers of every build in use, trained here, and tokens made up."""

from fractions import Fraction

import pytest
import torch

from syllabary.codecs.spec import TokenSpec
from syllabary.codecs.tokens import Tokens

CORPUS = [
    "The quick brown fox, it's 3.14 o'clock! hello world, this is a test| of 123",
    "naïve café ÀÉÎ über Straße 日本語 текст مرحبا 한국어, user and assistant",
] * 10

#: Llama 3's and Qwen's, from their files.
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def token_spec(sizes=(1024,) * 4, digest="ab", name="codec", **more):
    return TokenSpec(name, digest * 32, 16000, Fraction(50), tuple(sizes), **more)


def tokens_of(spec, lengths=(5, 3), seed=0, codebooks=None):
    generator = torch.Generator().manual_seed(seed)
    sizes = spec.codebook_sizes[:codebooks]
    shape = (len(lengths), max(lengths))
    codes = torch.stack([torch.randint(0, n, shape, generator=generator) for n in sizes], 1)
    global_codes = None
    if spec.global_codebook_sizes:
        rows = [torch.randint(0, n, (len(lengths),)) for n in spec.global_codebook_sizes]
        global_codes = torch.stack(rows, 1)
    lengths = torch.tensor(lengths)
    return Tokens(codes, lengths, lengths * spec.hop, spec, global_codes=global_codes)


def _byte_level(steps):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = steps
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return made, trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=alphabet,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )


def text_tokenizer(build):
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )

    kind, _, option = build.partition(" ")
    with_unknown = {"special_tokens": ["<unk>"], "show_progress": False}
    if kind == "gpt-2":
        made, trainer = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    elif kind == "roberta":
        made, trainer = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    elif kind == "llama-3":
        steps = [
            pre_tokenizers.Split(Regex(LLAMA_3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
        made, trainer = _byte_level(pre_tokenizers.Sequence(steps))
    elif kind == "smollm":
        steps = [
            pre_tokenizers.Digits(individual_digits=option != "runs"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
        made, trainer = _byte_level(pre_tokenizers.Sequence(steps))
    elif kind in ("gemma", "llama-2"):
        made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        steps = [normalizers.Replace(" ", "▁")]
        if kind == "llama-2":
            steps.insert(0, normalizers.Prepend("▁"))
        else:
            made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        made.normalizer = normalizers.Sequence(steps)
        trainer = trainers.BpeTrainer(vocab_size=300, **with_unknown)
    elif kind == "unigram":
        made = Tokenizer(models.Unigram())
        made.normalizer = normalizers.Lowercase() if option == "lower" else normalizers.NFKC()
        scheme = option if option in ("always", "first", "never") else "always"
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        made.decoder = decoders.Metaspace(prepend_scheme=scheme)
        trainer = trainers.UnigramTrainer(vocab_size=120, unk_token="<unk>", **with_unknown)
    elif kind == "bert":
        made = Tokenizer(models.WordPiece(unk_token="<unk>"))
        made.normalizer = normalizers.BertNormalizer(lowercase=False)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=300, **with_unknown)
    elif kind == "words":
        made = Tokenizer(models.WordLevel(unk_token="<unk>"))
        steps = [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()]
        made.pre_tokenizer = pre_tokenizers.Sequence(steps)
        trainer = trainers.WordLevelTrainer(vocab_size=300, **with_unknown)
    made.train_from_iterator(CORPUS, trainer)
    # As Llama 3 and Qwen have them: behind the model's own vocabulary.
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return made


@pytest.fixture(scope="session")
def base_of(tmp_path_factory):
    """A function from a build's name to the path of its tokenizer.json."""
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("bases")

    def path_of(build):
        path = folder / f"{build.replace(' ', '-')}.json"
        if not path.exists():
            text_tokenizer(build).save(str(path))
        return path

    return path_of
