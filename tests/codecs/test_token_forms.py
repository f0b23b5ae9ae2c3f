"""Tokens and latents in the forms that other programs take: arrays, bytes, batches of loaders."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import syllabary
from syllabary import Latents, Tokens
from syllabary.errors import ContainerError, LatentsError, TokenError, TokenMismatchError

from .. import tiny_codecs
from ..conftest import synthetic_speech

CODEC = tiny_codecs.rvq(name="tiny-rvq")
RATE = 16000


def tokens_of(*lengths):
    return CODEC.encode([synthetic_speech(n, n) for n in lengths], RATE)


# --- codes of others -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tensor", "array", "lists", "int16", "uint8"])
def test_codes_of_others_become_tokens(form):
    own = tokens_of(3200, 3200)
    forms = {
        "tensor": own.codes,
        "array": own.numpy(),
        "lists": own.codes.tolist(),
        "int16": own.codes.to(torch.int16),
        "uint8": own.numpy().astype(np.uint8),
    }
    made = Tokens.from_codes(forms[form], CODEC)
    assert made.equal(own)
    assert Tokens.from_codes(forms[form], CODEC.spec.tokens).equal(own)
    assert torch.equal(CODEC.decode(made), CODEC.decode(own))


def test_one_utterance_and_rows_of_different_lengths():
    own = tokens_of(3200, 1000)
    assert Tokens.from_codes(own.codes[0], CODEC).equal(own[0])
    made = Tokens.from_codes(own.codes + 0, CODEC, own.lengths.tolist(), [3200, 1000])
    assert made.equal(own)
    rubbish = own.codes.clone()
    rubbish[1, :, int(own.lengths[1]) :] = 10**6
    again = Tokens.from_codes(rubbish, CODEC, own.lengths, own.num_samples)
    assert again.equal(own) and int(again.codes.max()) < 32
    units = syllabary.load("units-16k").spec.tokens
    sound = Tokens.from_codes([3, 7, 3], units, durations=[2, 1, 4])
    assert sound.codes.shape == (1, 1, 3) and sound.num_frames.tolist() == [7]
    assert sound.num_samples.tolist() == [7 * units.hop]


@pytest.mark.parametrize(
    ("codes", "more", "says"),
    [
        (torch.full((1, 4, 3), 32), {}, "out of range: codebook 0 has 32"),
        (torch.full((1, 4, 3), -1), {}, "out of range"),
        (torch.zeros(1, 5, 3, dtype=torch.long), {}, "5 codebooks"),
        (torch.zeros(1, 4, 3), {}, "integers"),
        ([[1, 2], [3]], {}, "codes must be"),
        ("abc", {}, "codes must be"),
        (torch.zeros(1, 1, 4, 3, dtype=torch.long), {}, "shape"),
        (torch.zeros(1, 4, 3, dtype=torch.long), {"lengths": [4]}, "lengths must lie"),
        (torch.zeros(1, 4, 3, dtype=torch.long), {"lengths": [1, 2]}, "lengths must have"),
        (torch.zeros(1, 4, 3, dtype=torch.long), {"num_samples": [5]}, "samples"),
        (torch.zeros(1, 4, 3, dtype=torch.long), {"durations": [[1, 0, 1]]}, "duration"),
    ],
)
def test_codes_that_are_none(codes, more, says):
    with pytest.raises(TokenError, match=says):
        Tokens.from_codes(codes, CODEC, **more)


def test_vectors_of_a_language_model_become_latents():
    own = CODEC.latents(synthetic_speech(3200), RATE)
    made = Latents.from_vectors(own.vectors, CODEC)
    assert made.equal(own) and torch.equal(CODEC.decode(made), CODEC.decode(own))
    assert (
        Latents.from_vectors(own.vectors[0].to(torch.bfloat16), CODEC).vectors.dtype
        == torch.float32
    )
    shorter = Latents.from_vectors(own.vectors + 0, CODEC, [4])
    assert shorter.num_samples.tolist() == [4 * 320] and not shorter.vectors[0, 4:].any()
    with pytest.raises(LatentsError, match="8 channels, got 7"):
        Latents.from_vectors(torch.zeros(1, 3, 7), CODEC)
    with pytest.raises(LatentsError, match="shape"):
        Latents.from_vectors(torch.zeros(7), CODEC)
    with pytest.raises(LatentsError, match="floating"):
        Latents.from_vectors(torch.zeros(1, 3, 8, dtype=torch.long), CODEC)


# --- arrays --------------------------------------------------------------------------------------


def test_arrays():
    tokens = tokens_of(3200, 1000)
    assert tokens.numpy().dtype == np.int64 and np.array_equal(tokens.numpy(), tokens.codes)
    for row, frames in enumerate(tokens.lengths.tolist()):
        codes = np.asarray(tokens[row])
        assert codes.shape == (4, frames)
        assert np.array_equal(codes, tokens.codes[row, :, :frames])
    assert np.asarray(tokens[0], np.uint16).dtype == np.uint16
    with pytest.raises(TokenError, match="take a row"):
        np.asarray(tokens)
    latents = CODEC.latents(synthetic_speech(1000), RATE)
    assert np.array_equal(latents.numpy(), latents.vectors)


# --- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [False, True])
def test_bytes_are_those_of_a_file(tmp_path, compress):
    tokens = tokens_of(5000)
    data = syllabary.tokens_to_bytes(tokens, {"speaker": "7"}, compress)
    size = syllabary.write_tokens(tmp_path / "a.syl", tokens, {"speaker": "7"}, compress)
    assert data == (tmp_path / "a.syl").read_bytes() and len(data) == size
    back = syllabary.tokens_from_bytes(data)
    assert back.equal(tokens) and back.metadata == ({"speaker": "7"},)
    with pytest.raises(ContainerError, match=r"bytes: not a \.syl file"):
        syllabary.tokens_from_bytes(b"nonsense")
    with pytest.raises(TokenError, match="one utterance"):
        syllabary.tokens_to_bytes(tokens_of(1000, 2000))


def test_metadata_stay_with_their_rows(tmp_path):
    parts = []
    for name in "ab":
        syllabary.write_tokens(tmp_path / name, tokens_of(1000), {"name": name})
        parts.append(syllabary.read_tokens(tmp_path / name))
    batch = Tokens.batch([*parts, tokens_of(2000)])
    assert batch.metadata == ({"name": "a"}, {"name": "b"}, {})
    assert batch[1].metadata == ({"name": "b"},) and batch[1:].metadata[0] == {"name": "b"}
    assert batch.to("cpu").keep_codebooks(2).deduplicate().metadata == batch.metadata
    assert parts[0].equal(tokens_of(1000)) and tokens_of(1000).metadata is None
    syllabary.write_tokens(tmp_path / "c", parts[0])  # goes on to the next file
    assert syllabary.read_tokens(tmp_path / "c").metadata == ({"name": "a"},)
    syllabary.write_tokens(tmp_path / "c", parts[0], {})
    assert syllabary.read_tokens(tmp_path / "c").metadata is None
    with pytest.raises(TokenError, match="2 metadata for 1 rows"):
        Tokens(
            parts[0].codes, parts[0].lengths, parts[0].num_samples, parts[0].spec, metadata=({}, {})
        )


def test_torch_saves_and_loads_them_by_its_safe_way():
    tokens, latents = tokens_of(1000).deduplicate(), CODEC.latents(synthetic_speech(1000), RATE)
    file = io.BytesIO()
    torch.save({"tokens": tokens, "latents": [latents]}, file)
    file.seek(0)
    found = torch.load(file, weights_only=True)
    assert found["tokens"].equal(tokens) and found["latents"][0].equal(latents)
    found["tokens"].check()


LOADS = """
import sys, torch
from syllabary import Tokens
print(len(torch.load(sys.argv[1], weights_only=True)))
"""


def test_another_process_loads_them(tmp_path):
    torch.save(tokens_of(1000, 2000), tmp_path / "tokens.pt")
    command = [sys.executable, "-c", LOADS, str(tmp_path / "tokens.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"


# --- loaders -------------------------------------------------------------------------------------


class Speech(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        tokens = tokens_of(1000 * (index + 1))
        return {
            "tokens": tokens,
            "pair": (CODEC.embed(tokens), index),
            "text": f"number {index}",
            "speaker": None,
        }


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_of_torch_makes_batches(workers):
    loader = DataLoader(
        Speech(),
        batch_size=2,
        collate_fn=syllabary.collate,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    batches = list(loader)
    for number, batch in enumerate(batches):
        lengths = [2000 * number + 1000, 2000 * number + 2000]
        assert batch["tokens"].equal(tokens_of(*lengths))
        latents, indices = batch["pair"]
        assert latents.equal(CODEC.embed(tokens_of(*lengths)))
        assert indices.tolist() == [2 * number, 2 * number + 1]
        assert batch["text"] == [f"number {2 * number}", f"number {2 * number + 1}"]
        assert batch["speaker"] == [None, None]


def test_what_does_not_go_into_one_batch_is_named():
    other = tiny_codecs.rvq(seed=5, name="other")
    theirs = other.encode(synthetic_speech(1000), RATE)
    with pytest.raises(TokenMismatchError, match="other"):
        syllabary.collate([tokens_of(1000), theirs])
    with pytest.raises(TokenError, match="numbers of codebooks"):
        syllabary.collate([tokens_of(1000), tokens_of(1000).keep_codebooks(2)])
    with pytest.raises(TokenMismatchError, match="these latents"):
        syllabary.collate([CODEC.embed(tokens_of(1000)), other.embed(theirs)])
