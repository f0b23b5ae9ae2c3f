"""Whisper through CTranslate2: of random weights, made here; and the real one, where it is."""

import json
import os
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from syllabary.audio.files import read
from syllabary.audio.manifests import read_manifest
from syllabary.eval import recogniser_folders, recognition
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.recogniser_folders import find_model
from syllabary.eval.recognition import (
    ASR,
    default_recognizer,
    in_a_loop,
    listening_with,
    open_recognizer,
    word_errors,
)
from syllabary.eval.unit_measures.alignment import words_of
from syllabary.eval.whisper_recognition import WhisperRecognizer

from ..tiny_whisper import write_tiny_ctranslate2, write_tiny_whisper

faster_whisper = pytest.importorskip("faster_whisper")
REAL = Path(
    os.environ.get("SYLLABARY_WHISPER", Path.home() / ".cache/syllabary-dev/whisper/ct2-base")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_ctranslate2(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    return write_tiny_ctranslate2(
        tmp_path_factory.mktemp("models") / "tiny.en", multilingual=False, seed=1
    )


@pytest.fixture(scope="module")
def listener(folder):
    return WhisperRecognizer(find_model(str(folder)))


@pytest.fixture(scope="module")
def wave():
    return read(Path(__file__).parents[2] / "assets" / "demo.flac")[0]


def test_words_depend_on_the_samples_and_the_language(folder, listener, wave):
    first = listener.words(wave[:64000], 16000, "en")
    assert first and listener.words(wave[:64000], 16000, "en") == first
    assert listener.words(wave[:64000], 16000, "ar") != first
    assert listener.words(wave[:48000], 16000, "en") != first
    other = WhisperRecognizer(find_model(str(folder)))
    other.words(wave[16000:48000], 16000, "sw")
    assert other.words(wave[:64000], 16000, "en") == first
    told = listener.language_of(wave, 16000)
    assert told in listener.languages
    assert listener.words(wave, 16000) == listener.words(wave, 16000, told)
    assert listener.words(wave[:100], 16000, "en") == []  # less than a frame of the spectrum


def test_it_is_the_most_likely_token_at_each_step(folder, listener, wave):
    """By CTranslate2 itself, told the same language."""
    import ctranslate2
    import tokenizers

    model = ctranslate2.models.Whisper(str(folder), compute_type="int8", intra_threads=1)
    text = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    samples = wave[:32000]
    mel = faster_whisper.feature_extractor.FeatureExtractor()(samples)[:, :-1]
    mel = np.pad(mel, ((0, 0), (0, 3000 - mel.shape[1])))[None].astype(np.float32)
    features = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel))
    prompt = [f"<|{name}|>" for name in ("startoftranscript", "nl", "transcribe", "notimestamps")]
    forbidden = faster_whisper.tokenizer.Tokenizer(text, True, "transcribe", "nl")
    found = model.generate(
        features,
        [[text.token_to_id(name) for name in prompt]],
        beam_size=1,
        sampling_topk=1,
        max_length=448,
        suppress_tokens=faster_whisper.transcribe.get_suppressed_tokens(forbidden, [-1]),
    )[0].sequences_ids[0]
    # A random model writes time stamps even if it is told not to, and what follows them goes.
    words = listener.words(samples, 16000, "nl")
    assert len(words) >= 20 and words == words_of(forbidden.decode(found))[: len(words)]


def test_long_audio_is_heard_to_its_end(listener, wave, monkeypatch):
    long = np.tile(wave, 10)[: 70 * 16000]
    starts = []
    encode = listener._model.encode
    monkeypatch.setattr(
        listener._model, "encode", lambda mel: (starts.append(mel.copy()), encode(mel))[1]
    )
    words = listener.words(long, 16000, "en")
    assert len(starts) >= 3 and len(words) > len(listener.words(long[: 30 * 16000], 16000, "en"))
    # The last window holds the end of the audio: 10 s of it, or more.
    changed = long.copy()
    changed[-8 * 16000 :] = 0
    before = [mel.copy() for mel in starts]
    starts.clear()
    listener.words(changed, 16000, "en")
    assert any(not np.array_equal(one, other) for one, other in zip(before, starts, strict=False))


def test_results_name_the_model_by_its_digest(folder, listener, tmp_path):
    digest = find_model(str(folder)).digest
    assert listener.name.startswith(f"tiny {digest[:12]}, faster-whisper ")
    assert ", CTranslate2 " in listener.name and listener.name.endswith("int8, greedy")
    copy = shutil.copytree(folder, tmp_path / "tiny")
    (copy / "README.md").write_text("a card")
    assert WhisperRecognizer(find_model(str(copy))).name == listener.name
    weights = bytearray((copy / "model.bin").read_bytes())
    weights[-1] ^= 1
    (copy / "model.bin").write_bytes(weights)
    assert WhisperRecognizer(find_model(str(copy))).name != listener.name
    spelt = shutil.copytree(folder, tmp_path / "spelt")
    text = (spelt / "tokenizer.json").read_text()
    (spelt / "tokenizer.json").write_text(text.replace('"Ġaaac"', '"Ġzaac"'))
    assert find_model(str(spelt)).digest != digest


def test_languages(listener, english, wave):
    assert {"en", "ar", "jv", "jw", "nb", "fil"} <= listener.languages
    assert listener.words(wave, 16000, "jv") == listener.words(wave, 16000, "jw")
    assert "yue" not in listener.languages  # this model has no token for it
    with pytest.raises(MetricError, match="does not know the language tlh"):
        listener.words(wave, 16000, "tlh")
    only = WhisperRecognizer(find_model(str(english)))
    assert only.languages == {"en"} and only.language_of(wave, 16000) == "en"
    assert only.words(wave, 16000) == only.words(wave, 16000, "en") != []
    with pytest.raises(MetricError, match="does not know the language ar"):
        only.words(wave, 16000, "ar")


def test_a_model_that_can_not_tell_languages_says_so(folder, tmp_path, wave):
    copy = shutil.copytree(folder, tmp_path / "mute")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"lang_ids": []}))
    mute = WhisperRecognizer(find_model(str(copy)))
    assert mute.words(wave, 16000, "en")
    for ask in (mute.words, mute.language_of):
        with pytest.raises(MetricError, match="no lang_ids, so it can't tell languages"):
            ask(wave, 16000)


def test_a_folder_of_transformers_is_converted_once(folder, tmp_path, wave, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    source = folder.with_name("tiny-source")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    found = find_model(str(source))
    assert found.kind == "transformers" and find_model(str(folder)).kind == "ctranslate2"
    heard = WhisperRecognizer(found)
    assert heard.name.startswith("tiny-source ")
    kept = tmp_path / ".cache" / "syllabary" / "recognisers"
    (made,) = kept.iterdir()
    assert made.name.startswith(found.digest[:16])
    again = recogniser_folders._convert
    monkeypatch.setattr(recogniser_folders, "_convert", None)
    assert WhisperRecognizer(found).words(wave, 16000, "ar") == heard.words(wave, 16000, "ar")
    # The converter found no tokens of languages, as there is no generation config that names them.
    assert heard.language_of(wave, 16000) in heard.languages
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    # Other weights under the same name are another model, and a failure leaves nothing behind.
    monkeypatch.setattr(recogniser_folders, "_convert", again)
    copy = shutil.copytree(source, tmp_path / "tiny-source")
    (copy / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(MetricError, match="tiny-source: can't be converted: "):
        WhisperRecognizer(find_model(str(copy)))
    assert list(kept.iterdir()) == [made]


def test_a_tokenizer_in_two_files_is_converted_too(folder, tmp_path, monkeypatch, wave):
    """As Whisper came before tokenizer.json."""
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HOME", str(tmp_path))
    source = shutil.copytree(folder.with_name("tiny-source"), tmp_path / "older")
    fields = json.loads((source / "tokenizer.json").read_text())
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (source / name).unlink(missing_ok=True)
    (source / "vocab.json").write_text(json.dumps(fields["model"]["vocab"]))
    (source / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.WhisperTokenizer(
        str(source / "vocab.json"), str(source / "merges.txt")
    )
    names = [token["content"] for token in fields["added_tokens"]]
    tokenizer.add_special_tokens({"additional_special_tokens": names[1:]})
    assert tokenizer.convert_tokens_to_ids("<|ar|>") == 50261
    tokenizer.save_pretrained(source)
    (source / "tokenizer.json").unlink(missing_ok=True)
    heard = WhisperRecognizer(find_model(str(source))).words(wave, 16000, "ar")
    whole = WhisperRecognizer(find_model(str(folder.with_name("tiny-source"))))
    assert heard == whole.words(wave, 16000, "ar")


def test_what_names_no_model_is_told(folder, tmp_path, wave, listener):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:1000])
    speechless = shutil.copytree(folder, tmp_path / "speechless")
    (speechless / "tokenizer.json").unlink()
    beyond = shutil.copytree(folder, tmp_path / "beyond")
    config = json.loads((beyond / "config.json").read_text()) | {"suppress_ids_begin": [60000]}
    (beyond / "config.json").write_text(json.dumps(config))
    for given, message in (
        (str(tmp_path / "nothing"), "nothing: no such folder"),
        ("./nothing", "no such folder"),
        (str(tmp_path / "empty"), "no config.json in it; expected a folder of CTranslate2 or"),
        (str(tmp_path / "file"), "a file; expected the folder"),
        ("enormous", "expected one, or owner/name on the hub, or a size of Whisper: tiny.en, tiny"),
        (str(broken), "recogniser broken: "),
        (str(speechless), "no tokenizer.json in "),
        (str(beyond), "config.json: suppress_ids_begin has 60000, but the last token is 51864"),
    ):
        with pytest.raises(MetricError, match=message):
            open_recognizer(given)
    with pytest.raises(MetricError, match="16000 Hz, got 8000"):
        listener.words(wave, 8000)
    for wrong in (np.nan * wave, wave[None], wave[:0]):
        with pytest.raises(MetricError, match="finite"):
            listener.words(wrong, 16000, "en")


def test_sizes_and_ids_come_from_the_hub(folder, tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def download(name, allow_patterns=None, **options):
        asked.append(name)
        if name.endswith("gone"):
            raise OSError("no network\nat all")
        return str(folder.with_name("tiny-source") if name == "someone/whisper" else folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    size, hub = find_model("small"), find_model("someone/ct2")
    assert (size.kind, size.label, size.path) == ("ctranslate2", "small", folder)
    assert (hub.kind, hub.label) == ("ctranslate2", "someone/ct2") and size.digest == hub.digest
    assert asked[0] == "Systran/faster-whisper-small"
    assert find_model("someone/whisper").kind == "transformers"
    with pytest.raises(MetricError, match=r"can't be downloaded: no network$"):
        find_model("someone/gone")
    (tmp_path / "small").symlink_to(folder)
    asked.clear()
    assert find_model("small").label == "tiny" and not asked  # a folder goes before a size


def test_the_variable_and_the_option(folder, english, monkeypatch):
    monkeypatch.setattr(recognition, "open_recognizer", recognition.open_recognizer.__wrapped__)
    monkeypatch.setenv(ASR, str(folder))
    assert default_recognizer().name.startswith("tiny ")
    with listening_with(str(english)):
        assert default_recognizer().name.startswith("tiny.en ")
    with listening_with(None):
        assert default_recognizer().name.startswith("tiny ")
    monkeypatch.delenv(ASR)
    with listening_with(str(english)):
        pass
    assert ASR not in os.environ


# Universal Declaration of Human Rights, articles 1 and 2 in part (public domain).
HINDI = (
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है उन्हें बुद्धि और "
    "अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए सभी को इस घोषणा में "
    "सन्निहित सभी अधिकारों और आज़ादियों को प्राप्त करने का हक़ है और इस मामले में जाति वर्ण लिंग भाषा धर्म "
    "राजनीति या अन्य विचार प्रणाली किसी देश या समाज विशेष में जन्म सम्पत्ति या किसी प्रकार की अन्य मर्यादा "
    "आदि के कारण भेदभाव का विचार न किया जाएगा इसके अतिरिक्त चाहे कोई देश या प्रदेश स्वतन्त्र हो संरक्षित हो "
    "या स्वशासन रहित हो या परिमित प्रभुसत्ता वाला हो उस देश या प्रदेश की राजनैतिक क्षेत्रीय या अन्तर्राष्ट्रीय "
    "स्थिति के आधार पर वहां के निवासियों के प्रति कोई फ़र्क़ न रखा जाएगा"
)
THAI = (
    "มนุษย์ทั้งปวงเกิดมามีอิสระและเสมอภาคกันในศักดิ์ศรีและสิทธิต่างในตนมีเหตุผลและมโนธรรมและควรปฏิบัติต่อกันด้วย"
    "จิตวิญญาณแห่งภราดรภาพทุกคนย่อมมีสิทธิและอิสรภาพทั้งปวงตามที่กำหนดไว้ในปฏิญญานี้โดยปราศจากการแบ่งแยกไม่ว่าชนิดใด"
    "อาทิเชื้อชาติผิวเพศภาษาศาสนาความคิดเห็นทางการเมืองหรือทางอื่นพื้นเพทางชาติหรือสังคมทรัพย์สินการเกิดหรือสถานะอื่น"
    "นอกเหนือจากนี้จะไม่มีการแบ่งแยกใดบนพื้นฐานของสถานะทางการเมืองทางกฎหมายหรือทางการระหว่างประเทศของประเทศหรือดินแดน"
    "ที่บุคคลสังกัด"
)


def long_text():
    """Some 50 minutes of English, of which zlib makes less than a 2.4th."""
    words = (Path(recognition.__file__).parents[1] / "README.md").read_text().lower()
    words = re.findall(r"[a-z']+", words)
    random = np.random.default_rng(0)
    text = " ".join(
        " ".join(words[start : start + 9]) for start in random.integers(0, len(words), 900)
    )
    assert len(text.encode()) > 2.4 * len(zlib.compress(text.encode()))
    return text


def test_loops():
    sentence = "and all of them had turned their heads towards the speaker when he came"
    digits = "one two three four five six seven eight nine zero one two"
    for spoken in ("", "no no no no", sentence, digits):
        assert not in_a_loop(spoken.split())
    # Scripts with three bytes a letter, and texts of many minutes, which compress well too.
    for spoken in (HINDI, THAI, long_text()):
        assert len(spoken) > 450 and not in_a_loop(spoken.split())
    assert len(HINDI.encode()) > 2.4 * len(zlib.compress(HINDI.encode()))
    assert in_a_loop(f"{long_text()} {'of the ' * 100} {long_text()}".split())
    for loop in ("सभी मनुष्यों को " * 40, "我们 " * 200):
        assert in_a_loop(loop.split())
    for written in ("the " * 60, "i am going to " * 25, f"{sentence} {'of the ' * 100}"):
        assert in_a_loop(written.split())


@pytest.fixture(scope="module")
def real():
    if not (REAL / "model.bin").exists():
        pytest.skip(
            f"no Whisper in {REAL}: set SYLLABARY_WHISPER to the folder of Whisper base in "
            "CTranslate2's files"
        )
    return WhisperRecognizer(find_model(str(REAL)))


def test_the_real_one_hears_speech(real, speech_folder):
    items = read_manifest(speech_folder / "manifest.jsonl")
    chosen = [
        item
        for item in items
        if item.split == "test" and item.extra.get("source") == "librispeech_test_other"
    ]
    chosen = [item for item in chosen if item.text and 4 < (item.duration_s or 0) < 12][:4]
    assert len(chosen) == 4
    texts, waves, errors = [], [], 0
    for item in chosen:
        wave = read(item.path, 16000, "mix")[0]
        heard = real.words(wave, 16000, item.language)
        assert real.language_of(wave, 16000) == "en"
        errors += word_errors(words_of(item.text), heard).edits
        texts += words_of(item.text)
        waves += [wave, np.zeros(8000, np.float32)]
    assert errors / len(texts) < 0.3
    # Of more than half a minute in one piece, every part is heard.
    long = np.concatenate(waves * 2)
    assert len(long) > 35 * 16000
    assert word_errors(texts * 2, real.words(long, 16000, "en")).rate < 0.35
    assert real.words(np.zeros(32000, np.float32), 16000, "en") == []  # silence is nothing


def test_the_real_one_in_the_files_of_transformers(real, speech_folder, tmp_path, monkeypatch):
    source = REAL.with_name(REAL.name.replace("ct2", "hf"))
    if source == REAL or not source.is_dir():
        pytest.skip(f"no {source}")
    monkeypatch.setenv("HOME", str(tmp_path))
    other = WhisperRecognizer(find_model(str(source)))
    items = read_manifest(speech_folder / "manifest.jsonl")
    item = next(i for i in items if i.path.name == "2414-128291-0000.flac")
    wave = read(item.path, 16000, "mix")[0]
    words = real.words(wave, 16000, "en")
    assert words and word_errors(words, other.words(wave, 16000, "en")).rate <= 0.2
    assert other.language_of(wave, 16000) == "en"


def test_tiny_models_differ_by_their_seed(tmp_path):
    one, other = (write_tiny_whisper(tmp_path / str(seed), False, seed) for seed in (0, 1))
    assert find_model(str(one)).digest != find_model(str(other)).digest
