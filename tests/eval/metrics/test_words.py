import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval import recognition
from syllabary.eval.metrics import words
from syllabary.eval.metrics.interface import Clip, MetricError, Ratio
from syllabary.eval.pretrained_recognition import PretrainedRecognizer
from syllabary.eval.recogniser_folders import find_model
from syllabary.eval.recognition import ASR, default_recognizer

jiwer = pytest.importorskip("jiwer")

sentences = st.lists(st.sampled_from(["a", "bee", "sea", "d's"]), max_size=6)
ORIGINAL, DECODED = np.full(400, 0.1, np.float32), np.full(400, 0.2, np.float32)


class Listener:
    """Hears what it is told that two signals say."""

    name, languages = "listener 1", frozenset({"en"})

    def __init__(self, original, decoded):
        self.said = {ORIGINAL.tobytes(): original, DECODED.tobytes(): decoded}

        self.languages_told = []

    def words(self, wave, sample_rate, language=None):
        self.languages_told.append(language)
        return self.said[wave.tobytes()]

    def language_of(self, wave, sample_rate):
        return "by ear" if wave is ORIGINAL else "by a damaged ear"


@given(sentences, sentences, sentences)
@settings(deadline=None, max_examples=50)
def test_against_jiwer(text, original, decoded):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "default_recognizer", lambda: Listener(original, decoded))
        clip = Clip(ORIGINAL, DECODED, 16000, " ".join(text).upper() + ".", "en-GB")
        for reference, metrics in (
            (text, (words.word_error, words.character_error)),
            (original, (words.differential_word_error, words.differential_character_error)),
        ):
            for metric, rate in zip(metrics, (jiwer.wer, jiwer.cer), strict=True):
                if not reference:
                    with pytest.raises(MetricError, match=r"no text|nothing is recognised"):
                        metric(clip)
                    continue
                found = metric(clip)
                expected = rate(" ".join(reference), " ".join(decoded))
                assert found.numerator / found.denominator == pytest.approx(min(1, expected))
                whole = found.numerator if found.uncapped is None else found.uncapped
                assert whole / found.denominator == pytest.approx(expected)
                assert (found.uncapped is not None) == (expected > 1 + 1e-9)
        if original:
            assert words.differential_word_error(clip).denominator == len(original)


def test_languages(monkeypatch):
    listener = Listener(["one"], ["two"])
    monkeypatch.setattr(words, "default_recognizer", lambda: listener)
    for language in (None, "en", "EN_us"):
        clip = Clip(ORIGINAL, DECODED, 16000, "one", language)
        listener.languages_told.clear()
        assert words.word_error(clip) == words.differential_word_error(clip) == Ratio(1, 1)
        # Where nobody says it, the original does, for both.
        assert set(listener.languages_told) == {"en" if language else "by ear"}
    foreign = Clip(ORIGINAL, DECODED, 16000, "واحد", "ar")
    for metric in (words.WER, words.CER, words.DWER, words.DCER):
        with pytest.raises(MetricError, match="listener 1 knows en; this is ar"):
            metric.compute(foreign)
        assert metric.variant() == "listener 1, errors capped"
    listener.languages = frozenset(["en", *(f"{n:03}" for n in range(20))])
    with pytest.raises(MetricError, match="listener 1 does not know the language ar"):
        words.word_error(foreign)
    listener.languages = None
    assert words.word_error(foreign) == Ratio(1, 1)


def test_a_loop_costs_no_more_than_silence(monkeypatch):
    listener = Listener(["one", "two"], ["one"] + ["two"] * 100)
    monkeypatch.setattr(words, "default_recognizer", lambda: listener)
    clip = Clip(ORIGINAL, DECODED, 16000, "one two three")
    assert words.differential_word_error(clip) == Ratio(2, 2, uncapped=99)
    assert words.word_error(clip) == Ratio(3, 3, uncapped=99)
    characters = words.character_error(clip)
    assert characters.numerator == characters.denominator == 13 < characters.uncapped
    for metric in (words.WER, words.CER, words.DWER, words.DCER):
        assert metric.bounds == (0, 1)
    # In the original there is nothing to compare with.
    looping = Listener(["two"] * 100, ["two"])
    monkeypatch.setattr(words, "default_recognizer", lambda: looping)
    with pytest.raises(MetricError, match="falls into a loop on the original"):
        words.differential_word_error(clip)
    assert words.word_error(clip).numerator == 2


def test_pocketsphinx_listens_by_default(monkeypatch, demo_clip):
    pytest.importorskip("pocketsphinx")
    from syllabary.audio.files import read

    monkeypatch.delenv(ASR, raising=False)
    wave = read(demo_clip)[0][:48000]
    clip = Clip(wave, wave, 16000)
    assert words.differential_word_error(clip).numerator == 0
    assert words.differential_character_error(clip).numerator == 0
    assert words.DWER.variant().startswith("pocketsphinx 5")
    assert default_recognizer() is default_recognizer()
    with pytest.raises(MetricError, match="reference is silent"):
        words.differential_word_error(Clip(0 * wave, wave, 16000))


@pytest.fixture(scope="module")
def ctc_model(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    import torch

    folder = tmp_path_factory.mktemp("models") / "tiny-ctc"
    folder.mkdir()
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghij"]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 8),
        conv_stride=(5, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
    )
    model = transformers.Wav2Vec2ForCTC(config)
    torch.nn.init.normal_(model.lm_head.weight, std=5)
    model.save_pretrained(folder)
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    return folder, letters


def test_a_ctc_model(ctc_model, monkeypatch, demo_clip):
    import torch
    import transformers

    from syllabary.audio.files import read

    folder, letters = ctc_model
    wave = read(demo_clip)[0][16000:24000]
    model = transformers.Wav2Vec2ForCTC.from_pretrained(folder).eval()
    scaled = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
    with torch.inference_mode():
        best = model(torch.from_numpy(scaled)[None]).logits[0].argmax(-1).tolist()
    merged = [n for n, before in zip(best, [None, *best], strict=False) if n != before and n]
    text = "".join(letters[n] for n in merged if n > 3).replace("|", " ")
    monkeypatch.setenv(ASR, str(folder))
    monkeypatch.setattr(recognition, "open_recognizer", recognition.open_recognizer.__wrapped__)
    listener = default_recognizer()
    digest = find_model(str(folder)).digest
    assert listener.name.startswith(f"tiny-ctc {digest[:12]}, transformers ")
    assert listener.language_of(wave, 16000) is None and listener.languages is None
    assert text.split() and listener.words(wave, 16000) == text.split()
    assert words.word_error(Clip(wave, wave, 16000, text)).numerator == 0
    with pytest.raises(MetricError, match="16000 Hz, got 8000"):
        listener.words(wave, 8000)
    with pytest.raises(MetricError, match="finite"):
        listener.words(np.nan * wave, 16000)
    with pytest.raises(MetricError, match="recognition of 5 samples"):
        listener.words(wave[:5], 16000)


def test_a_folder_without_weights(ctc_model, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_bytes((ctc_model[0] / "config.json").read_bytes())
    with pytest.raises(MetricError, match=r"recogniser bare: "):
        PretrainedRecognizer(find_model(str(tmp_path / "bare")))
    torn = shutil.copytree(ctc_model[0], tmp_path / "torn")
    content = (torn / "model.safetensors").read_bytes()
    for damaged in (b"no weights", content[:-100], content[:4]):  # as after a broken download
        (torn / "model.safetensors").write_bytes(damaged)
        with pytest.raises(MetricError, match=r"recogniser torn: ."):
            PretrainedRecognizer(find_model(str(torn)))
