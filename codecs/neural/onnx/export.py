"""Export trained codecs as two ONNX graphs: one step of a stream each, with explicit state.

`encoder.onnx` maps windows of samples to the codes that the codec finds, `decoder.onnx` maps codes
to samples; `onnx.json` has the other facts that a program needs. A graph takes any number of
frames, and a frame's output does not depend on that number except for rounding (in float64, in the
encoder).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ....errors import ExportError
from ....filesystem import replacing
from ...interface import AudioTokenizer
from ..codec import NeuralCodec
from ..compiled.cache import is_compilable
from ..trunks.raw_frames import SampleDecoder, SampleEncoder
from ..trunks.spectral import SpectralDecoder, SpectralEncoder

if TYPE_CHECKING:
    from .graph import Graph, Shape, Value

DESCRIPTION_FILE = "onnx.json"
GRAPH_FILES = ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"
FORMAT = "syllabary-onnx"
FORMAT_VERSION = 1


def export_onnx(codec: AudioTokenizer, directory: Path) -> None:
    """Write `encoder.onnx`, `decoder.onnx` and `onnx.json`; each appears whole or not at all.

    Args:
        codec: a `NeuralCodec` with a spectral or raw-frames trunk, on the CPU; left unchanged.
        directory: created if it does not exist.

    Raises:
        ExportError: the codec can't be exported, or the package onnx is missing.
    """
    if not isinstance(codec, NeuralCodec):
        raise ExportError(
            f"{codec.name} is of the family {codec.family}, which has no ONNX form; "
            "rvq, fsq and ts3 have"
        )
    if not is_compilable(codec.encoder):
        raise ExportError(
            f"{codec.name} has a trunk of {type(codec.encoder).__name__}, which has no ONNX form; "
            "spectral trunks and the paper's frames have"
        )
    if not importlib.util.find_spec("onnx"):
        raise ExportError("onnx is not installed; try: pip install 'syllabary[onnx]'")
    from . import codes as onnx_export_codes

    onnx_export_codes.check(_quantizer(codec))
    network, spec = codec.network, codec.spec
    directory.mkdir(parents=True, exist_ok=True)
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tokenizer": codec.name,
        "family": codec.family,
        "digest": spec.tokens.digest,
        "sample_rate": network.sample_rate,
        "hop": network.hop,
        "window": network.window,
        "codebook_sizes": list(spec.tokens.codebook_sizes),
        "look_ahead_frames": network.encoder_look_ahead,
        "delay_samples": network.delay,
        "encoder": _write_encoder(codec, directory / ENCODER_FILE),
        "decoder": _write_decoder(codec, directory / DECODER_FILE),
    }
    with replacing(directory / DESCRIPTION_FILE) as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n")


def _write_encoder(codec: NeuralCodec, path: Path) -> dict[str, Any]:
    """Write the encoder; return its description for `onnx.json`."""
    from .codes import codes_of
    from .graph import Graph
    from .layers import encoder_latents

    g, encoder = Graph(), codec.encoder
    assert isinstance(encoder, SpectralEncoder | SampleEncoder)
    start = [tensor.double() for tensor in encoder.init_state()]
    windows, state = g.input("windows", "float32"), _state(g, start)
    latents, after = encoder_latents(g, encoder, windows.cast("float64"), state)
    codes = codes_of(g, _quantizer(codec), latents.cast("float32"))
    given: tuple[Value, Shape] = windows, [1, "frames", codec.network.window]
    width: Shape = [1, "frames", codec.spec.tokens.num_codebooks]
    made = "codes", codes, width
    return _save(g, path, given, made, start, state, after)


def _write_decoder(codec: NeuralCodec, path: Path) -> dict[str, Any]:
    """Write the decoder; return its description for `onnx.json`."""
    from .codes import latents_of
    from .graph import Graph
    from .layers import decoder_samples, decoder_start

    g, decoder = Graph(), codec.decoder
    assert isinstance(decoder, SpectralDecoder | SampleDecoder)
    start = decoder_start(decoder)
    codes, state = g.input("codes", "int64"), _state(g, start)
    latents = latents_of(g, _quantizer(codec), codes)
    wave, after = decoder_samples(g, decoder, latents, state)
    wave = wave.op("Max", -1.0).op("Min", 1.0)
    given: tuple[Value, Shape] = codes, [1, "frames", codec.spec.tokens.num_codebooks]
    return _save(g, path, given, ("samples", wave, [1, "samples"]), start, state, after)


def _quantizer(codec: NeuralCodec) -> nn.Module:
    quantizer = codec.quantizer
    assert isinstance(quantizer, nn.Module)
    return quantizer


def _state(g: Graph, start: Sequence[Tensor]) -> list[Value]:
    return [
        g.input(f"state_{i}", str(tensor.dtype).removeprefix("torch."))
        for i, tensor in enumerate(start)
    ]


def _save(
    g: Graph,
    path: Path,
    given: tuple[Value, Shape],
    made: tuple[str, Value, Shape],
    start: Sequence[Tensor],
    state: Sequence[Value],
    after: Sequence[Value],
) -> dict[str, Any]:
    """Write a graph; return its description for `onnx.json`."""
    shapes = [list(tensor.shape) for tensor in start]
    outputs = [(f"{value.name}_after", last) for value, last in zip(state, after, strict=True)]
    with replacing(path) as temporary:
        g.save(
            temporary,
            [given, *zip(state, shapes, strict=True)],
            [made, *((*output, shape) for output, shape in zip(outputs, shapes, strict=True))],
        )
    value, shape = given
    return {
        "file": path.name,
        "input": {"name": value.name, "shape": shape, "dtype": str(value.dtype)},
        "output": made[0],
        "state": [
            {
                "name": value.name,
                "output": output,
                "shape": list(tensor.shape),
                "dtype": str(value.dtype),
                "start": _start(tensor),
            }
            for value, (output, _), tensor in zip(state, outputs, start, strict=True)
        ],
    }


def _start(tensor: Tensor) -> float:
    """Return the constant that fills an initial state."""
    value = tensor.flatten()[0].item() if tensor.numel() else 0
    assert bool((tensor == value).all())
    return value
