import json

import numpy as np
import pytest
import torch

import syllabary
from syllabary.audio.files import read, write
from syllabary.bpe import UnitBPE
from syllabary.cli.fit import fit
from syllabary.cli.main import cli
from syllabary.codecs.container import read_tokens
from syllabary.semantic import bundled_bpe as names
from syllabary.semantic.token_bpe import PieceCoder, bundled_bpe

from .. import tiny_codecs
from ..conftest import synthetic_speech
from .conftest import contents

TOKENIZER = "tiny-fsq"  # one codebook of 60 codes


@pytest.fixture(autouse=True)
def known():
    tiny_codecs.register()
    cli.add_command(fit)


@pytest.fixture
def small(run, tree, tmp_path):
    """Trained on the audio of `tree`."""
    code, _, err = run(
        "fit", "bpe", tree, "-o", tmp_path / "small", "--codec", TOKENIZER, "--vocab-size", 90
    )
    assert code == 0, err
    return tmp_path / "small"


def test_audio_and_its_tokens_train_the_same(run, tree, tmp_path, small):
    assert run("encode", tree, "-o", tmp_path / "syl", "--codec", TOKENIZER)[0] == 0
    code, out, _ = run(
        "fit", "bpe", tmp_path / "syl", "-o", tmp_path / "b" / "other", "--vocab-size", 90
    )
    assert code == 0 and out.startswith("other: 90 ids over 60 units, from ") and "12 files" in out
    one, other = UnitBPE.load(small), UnitBPE.load(tmp_path / "b" / "other")
    assert one.digest == other.digest and (one.name, other.name) == ("small", "other")
    assert one.deduplicated and np.array_equal(one.unit_durations, other.unit_durations)
    assert one.source == syllabary.load(TOKENIZER).spec.tokens.digest


def test_encode_and_decode(run, tree, tmp_path, small):
    code, _, err = run("encode", tree, "-o", tmp_path / "syl", "--codec", TOKENIZER, "--bpe", small)
    assert code == 0, err
    tokenizer = syllabary.load(TOKENIZER)
    coder = PieceCoder(UnitBPE.load(small), tokenizer.spec.tokens)
    assert len(list((tmp_path / "syl").rglob("*.syl"))) == 12
    for path in (tmp_path / "syl").rglob("*.syl"):
        wave, rate = read(tree / path.relative_to(tmp_path / "syl").with_suffix(".wav"))
        tokens = tokenizer.encode(wave, rate)
        pieces = read_tokens(path)
        assert pieces.equal(coder.encode(tokens))
        assert coder.decode(pieces).deduplicate().codes.equal(tokens.deduplicate().codes)
    code, _, err = run("decode", tmp_path / "syl", "-o", tmp_path / "back", "--bpe", small)
    assert code == 0, err
    back, _ = read(tmp_path / "back" / "s1" / "7.wav")
    pieces = read_tokens(tmp_path / "syl" / "s1" / "7.syl")
    expected = tokenizer.decode(coder.decode(pieces))[0].clamp(-1, 1).numpy()
    assert back.shape == (6500,) and np.abs(back - expected).max() < 1e-4

    made = contents(tmp_path / "syl")
    (tmp_path / "syl" / "s1" / "7.syl").unlink()
    again = ("encode", tree, "-o", tmp_path / "syl", "--codec", TOKENIZER, "--resume")
    code, out, _ = run(*again, "--bpe", small)
    assert code == 0 and "11 of 12 were whole already" in out
    assert contents(tmp_path / "syl") == made
    code, _, err = run(*again)
    assert code == 1 and "made with tokenizer" in err


def test_every_frame_comes_back_without_deduplication(run, tree, tmp_path):
    fitted = tmp_path / "every"
    fit_it = ("fit", "bpe", tree, "-o", fitted, "--codec", TOKENIZER, "--vocab-size", 68)
    code, out, err = run(*fit_it, "--no-dedup", "--type", "unigram", "--special", "<s>", "--json")
    assert code == 0, err
    fields = json.loads(out)
    assert fields["vocab_size"] == 68 and fields["type"] == "unigram"
    assert fields["trained_on"]["units"] == fields["trained_on"]["frames"] > 0
    source = tree / "s2" / "11.wav"
    assert run("encode", source, "--codec", TOKENIZER, "-o", tmp_path / "a.syl")[0] == 0
    coded = ("encode", source, "--codec", TOKENIZER, "-o", tmp_path / "b.syl", "--bpe", fitted)
    assert run(*coded)[0] == 0
    for name, more in (("a", ()), ("b", ("--bpe", fitted))):
        assert (
            run("decode", tmp_path / f"{name}.syl", "-o", tmp_path / f"{name}.wav", *more)[0] == 0
        )
    # Samples: each file also says of which tokens it was made.
    assert np.array_equal(*(read(tmp_path / f"{name}.wav")[0] for name in ("a", "b")))


def test_several_codebooks(run, wav, tmp_path):
    codec = ("--codec", "tiny-rvq")  # 4 codebooks of 32
    for count in (4, 2):
        fitted = tmp_path / f"b{count}"
        code, _, err = run(
            "fit", "bpe", wav, "-o", fitted, *codec, "--codebooks", count, "--vocab-size", 140
        )
        assert code == 0, err
        assert (
            run("encode", wav, "-o", tmp_path / "a.syl", *codec, "--codebooks", count, "--force")[0]
            == 0
        )
        assert (
            run("encode", wav, "-o", tmp_path / "b.syl", *codec, "--bpe", fitted, "--force")[0] == 0
        )
        coder = PieceCoder(UnitBPE.load(fitted), syllabary.load("tiny-rvq").spec.tokens)
        back = coder.decode(read_tokens(tmp_path / "b.syl"))
        exact = read_tokens(tmp_path / "a.syl")
        assert back.deduplicate().codes.equal(exact.deduplicate().codes)
        assert back.num_samples.equal(exact.num_samples)
        assert run("decode", tmp_path / "b.syl", "--bpe", fitted, "--force")[0] == 0
        assert read(tmp_path / "b.decoded.wav")[0].shape == read(wav)[0].shape
        code, _, err = run(
            "encode", wav, "-o", tmp_path / "c.syl", *codec, "--bpe", fitted, "--codebooks", 3
        )
        assert code == 2 and f"is for {count} codebooks, not the first 3" in err


def test_info_says_what_pieces_are_of(run, wav, small, tmp_path):
    assert (
        run("encode", wav, "-o", tmp_path / "x.syl", "--codec", TOKENIZER, "--bpe", small)[0] == 0
    )
    code, out, _ = run("info", tmp_path / "x.syl", "--json")
    fields = json.loads(out)
    pieces = read_tokens(tmp_path / "x.syl")
    seconds, count = int(pieces.num_samples) / 16000, int(pieces.lengths)
    assert code == 0 and (fields["pieces_of"], fields["bpe"]) == (TOKENIZER, "small")
    assert fields["tokenizer"] == f"{TOKENIZER}+small" and fields["codebook_sizes"] == [90]
    assert fields["frames"] == 49 and fields["positions"] == count < 49
    assert fields["positions_per_s"] == pytest.approx(count / seconds, abs=1e-3)
    assert fields["code_bitrate_bps"] == pytest.approx(count * np.log2(90) / seconds, abs=0.1)
    assert "nominal_bitrate_bps" not in fields


def test_a_cut_file_gives_what_came_before(run, tree, small, tmp_path):
    write(tmp_path / "long.wav", synthetic_speech(16000 * 45), 16000)
    made = tmp_path / "x.syl"
    assert (
        run("encode", tmp_path / "long.wav", "-o", made, "--codec", TOKENIZER, "--bpe", small)[0]
        == 0
    )
    whole = read_tokens(made)
    made.write_bytes(made.read_bytes()[:-40])
    code, out, _ = run("decode", made, "--bpe", small)
    assert code == 1 and "cut short" in out
    decoded = read(tmp_path / "x.decoded.wav")[0].shape[0]
    assert 0 < decoded < int(whole.num_samples) and decoded % 320 == 0


def test_nothing_to_encode_is_nothing(run, tmp_path, small):
    write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16000)
    made = tmp_path / "empty.syl"
    assert run("encode", tmp_path / "empty.wav", "--codec", TOKENIZER, "--bpe", small)[0] == 0
    assert read_tokens(made).num_frames.tolist() == [0]
    assert run("decode", made, "--bpe", small)[0] == 0
    assert read(tmp_path / "empty.decoded.wav")[0].shape == (0,)


def test_bundled_names_need_no_option(run, wav, small, tmp_path, monkeypatch):
    made = tmp_path / "x.syl"
    coded = ("encode", wav, "-o", made, "--codec", TOKENIZER, "--bpe")
    assert run(*coded, small)[0] == 0
    code, _, err = run("decode", made)
    assert code == 2 and "by 'small', which is not inside the package" in err and "--bpe" in err
    monkeypatch.setattr(names, "BUNDLED", tmp_path)
    bundled_bpe.cache_clear()
    assert run("decode", made)[0] == 0
    assert run(*coded, "small", "--force")[0] == 0
    bundled_bpe.cache_clear()


def test_clear_errors(run, tree, wav, small, tmp_path):
    def expect(*arguments, what, exit_code=2):
        code, _, err = run(*arguments)
        assert code == exit_code and what in err and "Traceback" not in err, err

    new = tmp_path / "new"
    base = ("fit", "bpe", "-o", new, "--vocab-size", 90)
    expect(*base, wav, what="is no .syl file; --codec NAME encodes audio first")
    expect(*base, tmp_path / "nowhere", what="no such file or folder")
    expect(*base, wav, "--codec", "nonsense", what="nonsense")
    expect(*base, wav, "--codec", TOKENIZER, "--name", "a+b", what="a name is")
    expect(*base[:-1], 60, wav, "--codec", TOKENIZER, what="more than the 60 units")
    expect(*base[:-1], 9000, wav, "--codec", TOKENIZER, what="pieces, not 9000")
    expect("fit", "bpe", wav, "-o", small, "--codec", TOKENIZER, what="use --force to overwrite")
    (tree / "s0" / "0.wav").write_bytes(b"no audio")
    expect(*base, tree, "--codec", TOKENIZER, what="0.wav")
    for codec in (TOKENIZER, "tiny-ts3"):
        assert run("encode", wav, "-o", tmp_path / "in" / f"{codec}.syl", "--codec", codec)[0] == 0
    expect(*base, tmp_path / "in", what="tiny-ts3.syl: these tokens were made by tiny-ts3")
    (tmp_path / "in" / f"{TOKENIZER}.syl").write_bytes(b"no tokens")
    expect(*base, tmp_path / "in", what="not a .syl file")
    assert not new.exists()

    made = tmp_path / "in" / "tiny-ts3.syl"
    out = ("-o", tmp_path / "y.wav")
    expect("decode", made, *out, "--bpe", small, what="which are no pieces: leave out --bpe")
    piece = ("encode", wav, "-o", tmp_path / "x.syl", "--bpe", small, "--codec")
    expect(*piece, "tiny-ts3", what="was trained on the units of a tokenizer")
    expect(*piece[:-2], tmp_path, "--codec", TOKENIZER, what="bpe.json: No such file")
    expect(*piece[:-2], "units-bpe-9k", "--codec", TOKENIZER, what="no byte-pair encoding inside")
    assert run(*piece, TOKENIZER)[0] == 0
    other = tmp_path / "other"
    assert run("fit", "bpe", wav, "-o", other, "--codec", TOKENIZER, "--vocab-size", 70)[0] == 0
    expect("decode", tmp_path / "x.syl", *out, "--bpe", other, what="these tokens were made by")


def test_real_speech(run, speech_folder, tmp_path):
    """De-duplicate, pieces, and back: exact, and shorter."""
    lines = map(json.loads, (speech_folder / "manifest.jsonl").read_text().splitlines())
    paths = [speech_folder / line["path"] for line in lines if line["split"] == "test"][:12]
    fitted = tmp_path / "real"
    learn = ("fit", "bpe", *paths, "-o", fitted, "--codec", TOKENIZER, "--vocab-size", 300)
    code, _, err = run(*learn)
    assert code == 0, err
    tokenizer = syllabary.load(TOKENIZER)
    coder = PieceCoder(UnitBPE.load(fitted), tokenizer.spec.tokens)
    for path in paths:
        tokens = tokenizer.encode(*read(path))
        pieces, exact = coder.encode(tokens), tokens.deduplicate()
        assert torch.equal(pieces.num_frames, tokens.lengths)
        assert int(pieces.lengths) < int(exact.lengths)
        assert coder.decode(pieces, exact.durations).equal(exact)
