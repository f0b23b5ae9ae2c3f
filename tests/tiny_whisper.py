"""Whisper models of random weights, small enough to be made in a test, with a tokenizer."""

import itertools
import json

import pytest


def write_tiny_whisper(folder, multilingual=True, seed=0):
    """A Whisper model in the files of transformers: 16 wide, one layer, words of four letters.

    CTranslate2 tells multilingual models by their vocabulary, so such a one has as many words as
    the real ones, and the empty one of theirs.
    """
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    import torch

    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    words = ("Ġ" + "".join(word) for word in itertools.product(alphabet, repeat=4))
    count = 50257 if multilingual else 1500
    text = [*letters, *itertools.islice(words, count - len(letters))]
    if multilingual:
        text[-1] = ""
    special = ["<|endoftext|>", "<|startoftranscript|>"]
    if multilingual:
        from faster_whisper.tokenizer import _LANGUAGE_CODES

        special += [f"<|{code}|>" for code in _LANGUAGE_CODES if code != "yue"]
    special += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>"]
    special += ["<|nospeech|>", "<|notimestamps|>"]
    vocabulary = {token: number for number, token in enumerate(text)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in special])
    folder.mkdir(parents=True)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    end = made.token_to_id("<|endoftext|>")
    torch.manual_seed(seed)
    config = transformers.WhisperConfig(
        vocab_size=made.get_vocab_size() + 1501,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        init_std=1.0,
        # By default also 50256, which a small vocabulary does not have.
        begin_suppress_tokens=[220, end],
        decoder_start_token_id=end + 1,
        eos_token_id=end,
        pad_token_id=end,
        bos_token_id=end,
    )
    transformers.WhisperForConditionalGeneration(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def write_tiny_ctranslate2(folder, **options):
    """The same in the files of CTranslate2, converted beside it."""
    converters = pytest.importorskip("ctranslate2.converters")
    pytest.importorskip("faster_whisper")
    source = write_tiny_whisper(folder.with_name(f"{folder.name}-source"), **options)
    copied = ["tokenizer.json", "preprocessor_config.json"]
    converters.TransformersConverter(str(source), copy_files=copied).convert(str(folder))
    config = json.loads((folder / "config.json").read_text())
    if options.get("multilingual", True):
        config["lang_ids"] = list(range(50259, 50358))
    (folder / "config.json").write_text(json.dumps(config))
    return folder
