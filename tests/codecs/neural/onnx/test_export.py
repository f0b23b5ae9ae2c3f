"""Exported graphs find the codec's codes, in any pieces, and make its sound."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from syllabary.codecs.neural.onnx.export import export_onnx
from syllabary.codecs.neural.onnx.steps import OnnxSteps
from syllabary.codecs.ts3.tokenizer import TS3Codec
from syllabary.errors import CheckpointError, ExportError
from syllabary.quantizers.nearest import NearestCode

from .... import tiny_codecs
from ....conftest import synthetic_speech

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} comes with syllabary[onnx]")


def odd_transform():
    """With a Fourier transform of no power of two."""
    config = tiny_codecs.ts3_config()
    analysis = replace(config.network.analysis, pitch_window=1000)
    torch.manual_seed(0)
    config = replace(config, network=replace(config.network, analysis=analysis))
    return tiny_codecs._spread(TS3Codec(config))


CODECS = {
    "ts3-int8": lambda: tiny_codecs.ts3(int8=True, decoder_look_ahead=1),
    "ts3": lambda: tiny_codecs.ts3(hop=400),
    "ts3-frames": tiny_codecs.ts3_frames,
    "ts3-levels": lambda: tiny_codecs.ts3(levels=(5, 4, 3)),
    "rvq-look-ahead": lambda: tiny_codecs.rvq(encoder_look_ahead=1),
    "fsq": tiny_codecs.fsq,
    "odd-transform": odd_transform,
}
PIECES = {"single frames": [1], "whole": [1000], "mixed": [1, 7, 2, 31, 1, 64]}


@pytest.fixture(scope="module", params=CODECS)
def exported(request, tmp_path_factory):
    """A codec, and the folder with its graphs."""
    codec = CODECS[request.param]()
    folder = tmp_path_factory.mktemp("onnx")
    export_onnx(codec, folder)
    return codec, folder


def in_pieces(steps: OnnxSteps, frames: np.ndarray, sizes: list[int]) -> np.ndarray:
    steps.reset()
    parts, start = [], 0
    while start < len(frames):
        for size in sizes:
            if start < len(frames):
                parts.append(steps(frames[start : start + size]))
                start += size
    return np.concatenate(parts)


def windows_of(wave: np.ndarray, description: dict) -> np.ndarray:
    """All windows (frames, window) of samples, with those that the look-ahead asks for."""
    hop, window = description["hop"], description["window"]
    frames = -(-len(wave) // hop) + description["look_ahead_frames"]
    padded = np.pad(wave, (window - hop, frames * hop - len(wave)))
    return np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]


@pytest.mark.parametrize("pieces", PIECES)
def test_codes(exported, pieces):
    codec, folder = exported
    wave = synthetic_speech(40_123)
    expected = codec.encode(torch.from_numpy(wave), 16000).codes[0].T.numpy()
    assert len(np.unique(expected[:, 0])) > 3
    steps = OnnxSteps(folder, "encoder")
    found = in_pieces(steps, windows_of(wave, steps.description), PIECES[pieces])
    found = found[steps.description["look_ahead_frames"] :]
    assert found.dtype == np.int64
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("pieces", PIECES)
def test_samples(exported, pieces):
    codec, folder = exported
    tokens = codec.encode(torch.from_numpy(synthetic_speech(32_000)), 16000)
    expected = codec.decode(tokens)[0].numpy()
    steps = OnnxSteps(folder, "decoder")
    description = steps.description
    codes = tokens.codes[0].T.numpy()
    # Frames that there aren't bring out what the delay holds back.
    after = -(-description["delay_samples"] // description["hop"])
    codes = np.pad(codes, ((0, after), (0, 0)), constant_values=-1)
    found = in_pieces(steps, codes, PIECES[pieces])[description["delay_samples"] :]
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=1e-4)


def test_description(exported):
    codec, folder = exported
    description = json.loads((folder / "onnx.json").read_text())
    assert description["digest"] == codec.spec.tokens.digest
    assert description["codebook_sizes"] == list(codec.spec.tokens.codebook_sizes)
    assert description["encoder"]["input"] == {
        "name": "windows", "shape": [1, "frames", codec.network.window], "dtype": "float32",
    }  # fmt: skip


def test_state_is_no_larger_after_than_before(exported):
    _, folder = exported
    for part, channels in (("encoder", "window"), ("decoder", None)):
        steps = OnnxSteps(folder, part)
        width = steps.description[channels] if channels else steps.part["input"]["shape"][2]
        before = {name: (t.shape, t.dtype) for name, t in steps.state.items()}
        steps(np.zeros((3, width)))
        assert {name: (t.shape, t.dtype) for name, t in steps.state.items()} == before


def exported_nearest(codebook: torch.Tensor, x: torch.Tensor, folder) -> torch.Tensor:
    """Codes (frames,) of x (frames, dim)."""
    import onnxruntime

    from syllabary.codecs.neural.onnx.codes import nearest
    from syllabary.codecs.neural.onnx.graph import Graph

    g, shape = Graph(), [1, "frames", x.shape[1]]
    given = g.input("x", "float32")
    codes = nearest(g, codebook, given)
    g.save(folder / "nearest.onnx", [(given, shape)], [("codes", codes, [1, "frames"])])
    session = onnxruntime.InferenceSession(folder / "nearest.onnx")
    return torch.from_numpy(session.run(["codes"], {"x": x[None].numpy()})[0][0])


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_nearest_of_equals_is_the_lowest(scale, tmp_path):
    """Codes that occur twice, mirrored ones, and vectors in the middle between them."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randint(-3, 4, (6, 3), generator=generator).float()
    codebook = torch.cat([half, half.flip(0), -half])
    x = torch.randint(-3, 4, (200, 3), generator=generator).float() * 0.5 * scale
    assert torch.equal(exported_nearest(codebook, x, tmp_path), NearestCode(codebook)(x))


def test_nearest_where_float32_cannot_tell(tmp_path):
    generator = torch.Generator().manual_seed(1)
    codebook = torch.randn(8, 6, generator=generator)
    codebook = torch.cat([codebook, codebook + 1e-7 * torch.randn(8, 6, generator=generator)])
    x = (codebook[:8] + 0.3 * torch.randn(50, 8, 6, generator=generator)).flatten(0, 1)
    assert torch.equal(exported_nearest(codebook, x, tmp_path), NearestCode(codebook)(x))


@pytest.mark.parametrize("length", [8, 320])
def test_transforms(length):
    from syllabary.codecs.neural.onnx.layers import fourier, inverse_fourier

    x = np.random.default_rng(0).standard_normal((3, length))
    spectrum = np.fft.rfft(x)
    found = x @ fourier(length)
    np.testing.assert_allclose(found, np.concatenate([spectrum.real, spectrum.imag], 1), atol=1e-12)
    np.testing.assert_allclose(found @ inverse_fourier(length), x, atol=1e-13)


@pytest.mark.parametrize(
    "make, says",
    [
        (tiny_codecs.dmel, "family dmel, which has no ONNX form; rvq, fsq and ts3"),
        (tiny_codecs.rvq_waveform, "WaveformEncoder"),
        (lambda: tiny_codecs.fsq(num_codebooks=2), "residual finite scalar"),
    ],
)
def test_codecs_without_a_form(make, says, tmp_path):
    with pytest.raises(ExportError, match=says):
        export_onnx(make(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_metrics_have_no_form(tmp_path):
    codec = tiny_codecs.ts3()
    object.__setattr__(codec.quantizer.config, "metric", "cosine")
    with pytest.raises(ExportError, match="Euclidean"):
        export_onnx(codec, tmp_path)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"not installed.*syllabary\[onnx\]"):
        export_onnx(tiny_codecs.ts3(), tmp_path)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": "other"}'])
def test_a_folder_that_is_no_export(content, tmp_path):
    if content is not None:
        (tmp_path / "onnx.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"onnx\.json"):
        OnnxSteps(tmp_path, "encoder")
