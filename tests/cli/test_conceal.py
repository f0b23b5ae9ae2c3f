"""`decode --conceal`: damaged files are decoded around what is lost, and it is said where."""

import json

import numpy as np
import pytest
import soundfile
import torch

import syllabary
from syllabary.audio.files import read, write
from syllabary.codecs.container import (
    SylReader,
    SylWriter,
    recover_tokens,
    tokens_from_bytes,
)
from syllabary.jobs.one_file import decode_file
from syllabary.semantic.token_bpe import PieceCoder, fit_bpe

from ..conftest import synthetic_speech
from ..tiny_codecs import content_units, rvq
from .conftest import LENGTH, pcm, split


@pytest.fixture
def damaged(run, tmp_path):
    """Chunks of a file of 34.7 s, with the codes of 20 to 30 s damaged; the whole file's path."""
    write(tmp_path / "x.wav", synthetic_speech(16_000 * 34 + 11_200), 16_000)
    assert run("encode", tmp_path / "x.wav", "--codec", "dmel")[0] == 0
    parts = split((tmp_path / "x.syl").read_bytes())
    parts[3] = parts[3][:-1] + bytes([parts[3][-1] ^ 1])
    (tmp_path / "broken.syl").write_bytes(b"".join(parts))
    return parts


def test_a_damaged_chunk_costs_its_own_frames(run, tmp_path, damaged):
    broken = tmp_path / "broken.syl"
    code, _, err = run("decode", broken)
    assert code == 2 and "chunk 3 is damaged; the 800 positions before it are whole" in err
    code, out, err = run("decode", broken, "--conceal")
    where = "400 of 1388 frames are lost (10.00 s), at 20.00–30.00 s"
    assert code == 0 and "34.70 s" in out and err == f"{broken}: {where}\n"
    wave, rate = read(tmp_path / "broken.decoded.wav")
    assert rate == 16_000 and len(wave) == 16_000 * 34 + 11_200
    tokens, lost = recover_tokens(broken)
    expected = syllabary.load("dmel").decode(tokens, lost=lost.mask()[None])[0].numpy()
    assert np.abs(wave - expected).max() < 1e-4
    # What came before is as in the whole file, and all codes after it are.
    assert run("decode", tmp_path / "x.syl")[0] == 0
    whole = read(tmp_path / "x.decoded.wav")[0]
    assert np.abs(wave - whole)[: 19 * 16_000].max() < 1e-4
    undamaged = tokens_from_bytes((tmp_path / "x.syl").read_bytes())
    assert torch.equal(tokens.codes[..., 1200:], undamaged.codes[..., 1200:])
    code, out, err = run("info", broken)
    assert code == 1 and f"the file is damaged: {where}" in err and "lost_frames" in out
    fields = json.loads(run("info", broken, "--json")[1])
    assert fields["lost_s"] == [[20.0, 30.0]] and fields["whole"] is False
    assert json.loads(run("info", tmp_path / "x.syl", "--json")[1])["lost_frames"] == 0


def test_cut_files_keep_their_length_where_it_is_told(run, tmp_path, damaged):
    (tmp_path / "cut.syl").write_bytes(b"".join(damaged[:3]) + damaged[3][:50])
    code, out, _ = run("decode", tmp_path / "cut.syl", "--conceal", "--json")
    line, summary = map(json.loads, out.splitlines())
    assert code == 0 and line["lost"]["seconds"] == [[20.0, 34.7]] and not line["partial"]
    assert line["seconds"] == 34.7 and summary["summary"]["done"] == 1
    assert len(read(tmp_path / "cut.decoded.wav")[0]) == 16_000 * 34 + 11_200
    # A file that can't tell: what is there is decoded, with exit code 1.
    tokens = tokens_from_bytes((tmp_path / "x.syl").read_bytes())
    with (tmp_path / "untold.syl").open("wb") as file, SylWriter(file, tokens.spec) as writer:
        writer.write(tokens)
    parts = split((tmp_path / "untold.syl").read_bytes())
    (tmp_path / "untold.syl").write_bytes(b"".join([*parts[:2], *parts[3:4]]))
    code, out, err = run("decode", tmp_path / "untold.syl", "--conceal")
    assert code == 1 and "30.00 s" in out
    assert "at 10.00–20.00 s; it is cut short after them, and nothing tells how much" in err
    (tmp_path / "untold.syl").write_bytes(parts[0])
    code, _, err = run("decode", tmp_path / "untold.syl", "--conceal", "--force")
    assert code == 2 and "cut short before its first whole chunk" in err
    (tmp_path / "head.syl").write_bytes(parts[0][:-9])
    code, _, err = run("decode", tmp_path / "head.syl", "--conceal")
    assert code == 2 and "the header is cut short" in err


def test_folders_and_resuming(run, tmp_path, damaged):
    out = tmp_path / "out"
    arguments = ["decode", tmp_path / "*.syl", "-o", out]
    assert run(*arguments, "--conceal")[0] == 0
    before = (out / "broken.wav").stat().st_mtime_ns
    code, said, _ = run(*arguments, "--conceal", "--resume")
    assert code == 0 and "2 of 2 were whole already" in said
    assert (out / "broken.wav").stat().st_mtime_ns == before
    code, _, err = run(*arguments, "--resume")
    assert code == 1 and "another --clipping or --conceal" in err


def test_a_stream_goes_on_after_damage(stream, wav):
    data = stream(pcm(wav), "encode", "dmel")[1]
    expected = stream(data, "decode")[1]
    parts = split(data)
    parts[10] = parts[10][:-1] + bytes([parts[10][-1] ^ 1])
    del parts[20]
    code, out, err = stream(b"".join(parts), "decode", "--conceal")
    assert code == 0 and len(out) == 2 * LENGTH
    assert err == "2 of 39 frames are lost (0.05 s), at 0.23–0.25, 0.47–0.50 s\n"
    heard = 2 * 7 * 400  # the decoder looks a frame ahead, and its windows overlap
    assert out[:heard] == expected[:heard] and out != expected
    code, out, err = stream(b"".join(parts[:15]), "decode", "--conceal")
    assert code == 1 and "nothing tells how much is missing" in err
    code, _, err = stream(data, "decode", "--conceal", "--server", "http://localhost:1")
    assert code == 2 and "--conceal works here" in err


@pytest.mark.parametrize("codebooks", [1, 2])
def test_pieces_are_decoded_around_a_gap(tmp_path, codebooks):
    tokenizer = content_units() if codebooks == 1 else rvq()
    rate = tokenizer.spec.sample_rate
    tokens = tokenizer.encode(synthetic_speech(rate * 30 + 77, 1, rate), rate)
    tokens = tokens if codebooks == 1 else tokens.keep_codebooks(codebooks)
    coder = PieceCoder(
        fit_bpe([tokens], tokens.spec.codebook_sizes[0] * codebooks + 8), tokens.spec
    )
    pieces = coder.encode(tokens)
    with (
        (tmp_path / "x.syl").open("wb") as file,
        SylWriter(
            file,
            pieces.spec,
            has_durations=True,
            global_codes=[] if pieces.global_codes is None else pieces.global_codes[0].tolist(),
            chunk_positions=int(pieces.lengths[0]) // 4,
        ) as writer,
    ):
        writer.write(pieces)
    parts = split((tmp_path / "x.syl").read_bytes())
    assert len(parts) > 4  # the header, three chunks or more, the end
    (tmp_path / "x.syl").write_bytes(b"".join([*parts[:2], *parts[3:]]))
    with (tmp_path / "x.syl").open("rb") as file:
        reader = SylReader(file, recover=True)
        report = decode_file(tokenizer, reader, tmp_path / "x.wav", coder=coder)
    frames = int(tokens.num_frames[0])
    assert report.lost.frames == frames and report.seconds == int(tokens.num_samples[0]) / rate
    assert soundfile.info(tmp_path / "x.wav").frames == int(tokens.num_samples[0])
    (span,) = report.lost.spans
    assert 0 < span[0] < span[1]
    assert (span[1] == frames) == (codebooks > 1)
