"""The waveform trunk and its layers: causal, streamed as in one piece, saved, trained."""

import dataclasses
import itertools

import pytest
import torch
from torch.nn import functional

import syllabary
from syllabary.codecs.fsq.tokenizer import FSQCodec, FSQConfig
from syllabary.codecs.neural.layers.strided import (
    CausalConv,
    CausalSequence,
    CausalUpsampling,
    ResidualUnit,
    Snake,
)
from syllabary.codecs.neural.trunks.spectral import SpectralConfig
from syllabary.codecs.neural.trunks.waveform import WaveformConfig
from syllabary.codecs.rvq.tokenizer import RVQCodec, RVQConfig
from syllabary.errors import CheckpointError
from syllabary.training.data import AugmentConfig
from syllabary.training.loop import train
from syllabary.training.losses import MelLossConfig
from syllabary.training.recipe import DataConfig, OptimizerConfig, ScheduleConfig, ValidationConfig
from syllabary.training.spectral.codec_task import RVQRecipe
from syllabary.training.spectral.supervision import SupervisionConfig

from ....conftest import synthetic_speech
from ....training.loop.tiny import write_corpus

SMALL = WaveformConfig(
    ratios=(4, 5), channels=4, decoder_channels=4, dilations=(1, 3), latent_dim=12
)


def codec(kind="rvq", seed=0, **changes):
    network = dataclasses.replace(SMALL, **changes)
    torch.manual_seed(seed)
    if kind == "rvq":
        made = RVQCodec(
            RVQConfig(
                network=network,
                num_codebooks=3,
                codebook_size=32,
                codebook_dim=4,
                dropout=(1, 3),
            )
        )
    else:
        made = FSQCodec(FSQConfig(network=network, levels=(8, 5, 5)))
    with torch.no_grad():
        made.encoder.stack.layers[-1].weight.mul_(20)  # untrained latents vary too little
    return made.eval()


def speech(samples, seed=0):
    return torch.from_numpy(synthetic_speech(samples, seed))


# --- layers ------------------------------------------------------------------------------------


def layers(activation):
    return CausalSequence(
        [
            CausalConv(2, 6, 7),
            ResidualUnit(6, 3, activation, 0.5),
            CausalConv(6, 8, 6, stride=3, activation=activation),
            CausalUpsampling(8, 4, 2, activation),
            CausalConv(4, 3, 4, stride=2, activation=activation),
        ]
    ).double()


@pytest.mark.parametrize("activation", ["elu", "snake"])
def test_any_split_gives_the_whole(activation):
    torch.manual_seed(1)
    stack = layers(activation)
    x = torch.randn(2, 2, 60, dtype=torch.float64)
    whole, end = stack(x)
    assert whole.shape == (2, 3, 20)
    for sizes in ((3,) * 20, (30, 30), (6, 9, 45)):
        state, parts = None, []
        for piece in x.split(sizes, 2):
            part, state = stack(piece, state)
            parts.append(part)
        torch.testing.assert_close(torch.cat(parts, 2), whole, rtol=0, atol=1e-12)
        for left, right in zip(state, end, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ["elu", "snake"])
def test_no_output_hears_later_input(activation):
    torch.manual_seed(2)
    stack = layers(activation)
    x = torch.randn(1, 2, 60, dtype=torch.float64)
    whole, _ = stack(x)
    for step in (0, 7, 19):
        changed = x.clone()
        changed[..., 3 * (step + 1) :] += 1
        again, _ = stack(changed)
        assert torch.equal(again[..., : step + 1], whole[..., : step + 1])
        changed[..., 3 * (step + 1) - 1] += 1
        again, _ = stack(changed)
        assert not torch.equal(again[..., step], whole[..., step])


def test_upsampling_is_a_transposed_convolution():
    torch.manual_seed(3)
    layer = CausalUpsampling(5, 4, 3, "elu").double()
    x = torch.randn(2, 5, 7, dtype=torch.float64)
    ours, _ = layer(x, layer.init_past(2))
    taps = layer.weight.unflatten(0, (4, 3))  # out, place in the block, in, the input before or it
    kernel = torch.cat([taps[..., 1], taps[..., 0]], 1).permute(2, 0, 1)  # in, out, 6 taps
    theirs = functional.conv_transpose1d(functional.elu(x), kernel, stride=3)[..., :21]
    torch.testing.assert_close(ours, theirs)


def test_snake():
    snake = Snake(2)
    with torch.no_grad():
        snake.alpha[1] = 3.0
    x = torch.linspace(-2, 2, 9)[None, None].expand(1, 2, 9)
    expected = torch.stack([x[0, 0] + x[0, 0].sin() ** 2, x[0, 1] + (3 * x[0, 1]).sin() ** 2 / 3])
    torch.testing.assert_close(snake(x)[0], expected)


def test_multiply_accumulates_are_counted(monkeypatch):
    made = codec()
    counted = 0
    original = functional.conv1d

    def counting(x, weight, *args, **options):
        nonlocal counted
        y = original(x, weight, *args, **options)
        counted += y.shape[2] * weight.numel()
        return y

    monkeypatch.setattr(functional, "conv1d", counting)
    made.encoder.latents(torch.zeros(1, 3, SMALL.hop))
    assert counted == 3 * made.encoder.macs_per_frame
    counted = 0
    made.decoder.wave(torch.zeros(1, 3, SMALL.latent_dim))
    assert counted == 3 * made.decoder.macs_per_frame


# --- codecs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rvq", "fsq"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "snake"},
        {"encoder_look_ahead": 1, "decoder_look_ahead": 3},
    ],
)
def test_streaming_equals_offline(kind, changes):
    made = codec(kind, **changes)
    wave = torch.stack([speech(1171), speech(1171, 1)])
    tokens = made.encode(wave, 16000)
    decoded = made.decode(tokens)
    assert decoded.shape == wave.shape and float(decoded.std()) > 0
    assert tokens.codes.unique().numel() > 4
    for size in (1171, 320, 20, 7):
        codes, waves = [], []
        with made.stream(2) as session:
            for chunk in wave.split(size, 1):
                codes.append(session.encode(chunk))
                waves.append(session.decode(codes[-1]))
            rest = session.flush()
            codes.append(rest.tokens)
            waves.append(rest.wave)
        streamed = torch.cat([part.codes for part in codes], 2)
        assert torch.equal(streamed, tokens.codes)
        assert torch.equal(torch.cat(waves, 1), decoded)
    first = made.encode(wave, 16000, num_codebooks=1)
    assert torch.equal(first.codes, tokens.codes[:, :1])


@pytest.mark.parametrize("samples", [0, 1, 19, 20, 21, 997])
def test_length_law(samples):
    for made in (codec(), codec(encoder_look_ahead=2, decoder_look_ahead=1)):
        tokens = made.encode(speech(samples)[None], 16000)
        assert tokens.lengths.tolist() == [-(-samples // 20)]
        assert made.decode(tokens).shape == (1, samples)


def test_codes_hear_as_far_ahead_as_the_spec_says():
    wave = speech(1200)
    for ahead in (0, 2):
        made = codec(encoder_look_ahead=ahead)
        assert made.spec.causal == (ahead == 0)
        assert made.spec.encoder_latency == (1 + ahead) * 20
        codes = made.encode(wave[None], 16000).codes
        changed = wave.clone()
        changed[600:] = torch.randn(600, generator=torch.Generator().manual_seed(4))
        again = made.encode(changed[None], 16000).codes
        assert torch.equal(again[..., : 30 - ahead], codes[..., : 30 - ahead])
        assert not torch.equal(again[..., 30 - ahead :], codes[..., 30 - ahead :])


def test_sound_lags_by_as_much_as_the_spec_says():
    for ahead in (0, 2):
        made = codec(decoder_look_ahead=ahead)
        assert made.spec.decoder_latency == ahead * 20
        tokens = made.encode(speech(1200)[None], 16000)
        codes = tokens.codes.clone()
        codes[..., 30:] = 0
        other = made.decode(dataclasses.replace(tokens, codes=codes))
        wave = made.decode(tokens)
        same = (30 - ahead) * 20
        assert torch.equal(other[:, :same], wave[:, :same])
        assert not torch.equal(other[:, same:], wave[:, same:])


def test_threads_and_neighbours_change_no_code():
    made = codec()
    wave = torch.stack([speech(3000), speech(3000, 1)])
    tokens = made.encode(wave, 16000)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        alone = made.encode(wave[1:], 16000)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone.codes, tokens.codes[1:])


@pytest.mark.parametrize("kind", ["rvq", "fsq"])
def test_save_and_load(kind, tmp_path):
    made = codec(kind, activation="snake")
    tokens = made.encode(speech(1000)[None], 16000)
    made.save_pretrained(tmp_path / "saved")
    loaded = type(made).from_pretrained(tmp_path / "saved")
    assert loaded.config == made.config and isinstance(loaded.network, WaveformConfig)
    again = loaded.encode(speech(1000)[None], 16000)
    assert torch.equal(again.codes, tokens.codes) and again.spec == tokens.spec
    assert torch.equal(loaded.decode(again), made.decode(tokens))


def test_the_digest_is_of_what_gives_codes_their_meaning():
    made = codec()
    assert codec(decoder_channels=6).network != made.network
    weights = made.state_dict()
    other = codec(seed=5, decoder_channels=6, decoder_look_ahead=2)
    own = {k: v for k, v in other.state_dict().items() if k.startswith("decoder.")}
    other.load_state_dict({**weights, **own})
    assert other.spec.tokens.digest == made.spec.tokens.digest
    assert codec(seed=5).spec.tokens.digest != made.spec.tokens.digest
    snake = codec(activation="snake")
    assert snake.spec.tokens.digest != made.spec.tokens.digest


def test_a_file_says_which_trunk():
    from syllabary.codecs.checkpoint import config_from_json, config_to_json

    for network in (SMALL, WaveformConfig(), SpectralConfig(pitch_hidden=8)):
        config = RVQConfig(network=network)
        assert config_from_json(RVQConfig, config_to_json(config)) == config
    fields = config_to_json(RVQConfig(network=SMALL))
    with pytest.raises(CheckpointError):
        config_from_json(RVQConfig, fields | {"network": fields["network"] | {"analysis": {}}})


@pytest.mark.parametrize(
    "bad",
    [
        {"ratios": ()},
        {"ratios": (1, 4)},
        {"channels": 0},
        {"dilations": (1, 0)},
        {"activation": "relu"},
        {"decoder_look_ahead": -1},
    ],
)
def test_impossible_configurations(bad):
    with pytest.raises(ValueError, match=r"must be|can't be"):
        WaveformConfig(**bad)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["elu", "snake"])
def test_the_default_streams_as_offline(activation):
    """At full width libraries choose other algorithms than for a few channels."""
    torch.manual_seed(6)
    made = RVQCodec(RVQConfig(network=WaveformConfig(activation=activation))).eval()
    wave = speech(20_003)
    tokens = made.encode(wave, 16000)
    assert tokens.codes.unique().numel() > 10
    with made.stream() as session:
        parts = [session.encode(chunk) for chunk in wave.split(640)]
        pcm = [session.decode(part) for part in parts]
        end = session.flush()
    assert torch.equal(torch.cat([p.codes for p in [*parts, end.tokens]], 2), tokens.codes)
    assert torch.equal(torch.cat([*pcm, end.wave], 1), made.decode(tokens))


def test_the_default_is_small_and_at_50_frames():
    made = RVQCodec(RVQConfig(network=WaveformConfig()))
    assert made.spec.tokens.frame_rate == 50 and made.spec.decoder_latency == 0
    trunk = itertools.chain(made.encoder.parameters(), made.decoder.parameters())
    assert 3e6 < sum(p.numel() for p in trunk) < 6e6


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [0, 1])
def test_two_steps_of_training(ahead, tmp_path):
    network = dataclasses.replace(SMALL, encoder_look_ahead=ahead, decoder_look_ahead=ahead)
    recipe = RVQRecipe(
        name="small-waves",
        steps=2,
        batch_size=2,
        data=DataConfig(
            manifest=str(write_corpus(tmp_path / "corpus")),
            crop_samples=1600,
            augment=AugmentConfig(),
        ),
        optimizer=OptimizerConfig(),
        schedule=ScheduleConfig(warmup_steps=1),
        validation=ValidationConfig(
            every=0, utterances=1, min_seconds=0.2, max_seconds=0.4, best_by="mel", pictures=0
        ),
        model=RVQConfig(
            network=network, num_codebooks=2, codebook_size=8, codebook_dim=4, dropout=(1, 2)
        ),
        quantize_from=1,
        supervision=SupervisionConfig(
            mel=MelLossConfig(window_lengths=(128, 512), num_mels=(10, 20))
        ),
    )
    train(recipe, tmp_path / "run", device="cpu", cache=tmp_path / "cache")
    # No pitch was looked for.
    assert not list((tmp_path / "cache").rglob("pitch-*"))
    trained = syllabary.load(str(tmp_path / "run" / "last"))
    assert trained.network == network
    tokens = trained.encode(speech(1000)[None], 16000)
    assert trained.decode(tokens).shape == (1, 1000)
