"""Tasks of the codecs and the vocoder: each trains a few steps and leaves a tokenizer."""

import dataclasses
import json
import math
import shutil

import pytest
import torch

import syllabary
from syllabary.codecs.checkpoint import export
from syllabary.codecs.dmel.config import DMelConfig
from syllabary.codecs.dmel.tokenizer import DMel
from syllabary.codecs.neural.trunks.spectral import SpectralDecoder
from syllabary.errors import TrainingError
from syllabary.training import recipe_registry as recipes
from syllabary.training.data import AugmentConfig
from syllabary.training.discriminators import MultiPeriodConfig
from syllabary.training.discriminators.joined import DiscriminatorsConfig
from syllabary.training.loop import train
from syllabary.training.loop.observer import Observer
from syllabary.training.losses import ContentLossConfig, DistillationConfig, MelLossConfig
from syllabary.training.losses.compressed import CompressedLossConfig
from syllabary.training.recipe import (
    AdversarialConfig,
    DataConfig,
    OptimizerConfig,
    ScheduleConfig,
    ValidationConfig,
)
from syllabary.training.spectral.codec_task import (
    FSQRecipe,
    FSQTask,
    RVQRecipe,
    RVQTask,
    TS3Recipe,
    rendered,
)
from syllabary.training.spectral.quantizer_start import start_codebook
from syllabary.training.spectral.supervision import Supervision, SupervisionConfig, Voicing
from syllabary.training.spectral.vocoder_task import VocoderRecipe, VocoderTask

from ... import tiny_codecs, tiny_units
from ...conftest import synthetic_speech
from ..loop import tiny

pytest.importorskip("pyworld")

SUPERVISION = SupervisionConfig(
    mel=MelLossConfig(window_lengths=(256, 512), num_mels=(20, 40)),
    compressed=CompressedLossConfig(window_lengths=(512,)),
    own_pitch_from=2,
    discriminators=DiscriminatorsConfig(
        multi_period=MultiPeriodConfig(periods=(2, 3), width=2, growth=(1, 2)),
        multi_scale_stft=None,
    ),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


def shared(corpus, **fields):
    """Three steps: without a quantizer, with one, and with a discriminator."""
    settings = {
        "steps": 3,
        "batch_size": 2,
        "data": DataConfig(
            manifest=str(corpus), crop_samples=3200, augment=AugmentConfig(gain_db=(-6.0, 3.0))
        ),
        "optimizer": OptimizerConfig(lr=1e-3, muon_lr=3e-3, weight_decay=0.01),
        "schedule": ScheduleConfig(warmup_steps=1),
        "adversarial": AdversarialConfig(start_step=2),
        "validation": ValidationConfig(
            every=0, utterances=2, min_seconds=0.2, max_seconds=0.4, best_by="mel", pictures=0
        ),
        "log_every": 1,
        "supervision": SUPERVISION,
    }
    return settings | fields


def rvq(corpus, model=None, **fields):
    model = model or tiny_codecs.rvq_config()
    return RVQRecipe(name="small", model=model, **shared(corpus, **{"quantize_from": 1, **fields}))


def fsq(corpus, model=None, **fields):
    model = model or tiny_codecs.fsq_config()
    return FSQRecipe(name="small", model=model, **shared(corpus, **{"quantize_from": 1, **fields}))


def ts3(corpus, model=None, **fields):
    model = model or tiny_codecs.ts3_config(int8=True, decoder_look_ahead=1)
    settings = {"quantize_from": 1, "start_batches": 8} | fields
    return TS3Recipe(name="small", model=model, **shared(corpus, **settings))


def vocoder(corpus, hop=400, look_ahead=0, **fields):
    return VocoderRecipe(
        name="small",
        tokens=DMelConfig(hop_length=hop),
        model=tiny_codecs.vocoder_config(hop, look_ahead),
        **shared(corpus, **fields),
    )


def ahead(before, after):
    return {"encoder_look_ahead": before, "decoder_look_ahead": after}


MADE = {
    "rvq": rvq,
    "rvq look-ahead": lambda corpus: rvq(corpus, tiny_codecs.rvq_config(**ahead(1, 2))),
    "rvq 25 Hz": lambda corpus: rvq(corpus, tiny_codecs.rvq_config(640)),
    "rvq waveform": lambda corpus: rvq(corpus, tiny_codecs.rvq_waveform().config),
    "fsq": fsq,
    "fsq look-ahead": lambda corpus: fsq(corpus, tiny_codecs.fsq_config(**ahead(3, 1))),
    "fsq residual": lambda corpus: fsq(corpus, tiny_codecs.fsq_config(num_codebooks=2)),
    "fsq levels": lambda corpus: fsq(corpus, level_dropout=((3, 3, 3),), dropout_share=1.0),
    "ts3": ts3,
    "ts3 levels": lambda corpus: ts3(corpus, tiny_codecs.ts3_config(levels=(5, 4, 3))),
    "ts3 frames": lambda corpus: ts3(corpus, tiny_codecs.ts3_frames_config()),
    "vocoder": vocoder,
    "vocoder look-ahead": lambda corpus: vocoder(corpus, 200, 2),
    "bf16": lambda corpus: rvq(corpus, bf16=True),
}


@pytest.mark.parametrize("kind", MADE)
def test_a_few_steps_leave_a_tokenizer(kind, corpus, cache, tmp_path):
    recipe = MADE[kind](corpus)
    outcome = train(recipe, tmp_path, device="cpu", cache=cache)
    assert outcome.step == 3 and outcome.reason == "done"
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    names = {name for line in steps for name in line}
    assert {"mel", "compressed"} <= names
    assert ("pitch" in names) == (kind not in ("rvq waveform", "ts3 frames"))
    assert "adversarial" in str(steps[2]) and "adversarial" not in str(steps[1])
    if kind.startswith("rvq"):
        assert "commitment" in steps[1] and "commitment" not in steps[0]
    (judged,) = (line for line in lines if line["kind"] == "validation")
    assert judged["counts"] == {"mel": 2} and not judged["missing"]

    assert recipes.find(str(tmp_path / "last")) == recipe
    tokenizer = syllabary.load(tmp_path / "last")
    assert tokenizer.name == "small"
    wave = torch.from_numpy(synthetic_speech(7000))
    tokens = tokenizer.encode(wave, 16000)
    again = tokenizer.decode(tokens)
    assert again.shape == (1, 7000) and bool(again.isfinite().all())
    with tokenizer.stream() as session:
        pcm = [session.decode(session.encode(chunk)) for chunk in wave.split(999)]
        pcm.append(session.flush().wave)
    assert torch.equal(torch.cat(pcm, 1), again)
    average = torch.load(tmp_path / "state.pt", weights_only=True)["average"]
    prefix = "vocoder." if recipe.task == "dmel-vocoder" else ""
    found = tokenizer.state_dict()
    assert all(torch.equal(found[prefix + name], value) for name, value in average.items())


def test_nothing_is_quantized_before_its_time(corpus, cache, tmp_path):
    recipe = dataclasses.replace(rvq(corpus), quantize_from=9, adversarial=None)
    train(recipe, tmp_path, device="cpu", cache=cache)
    average = torch.load(tmp_path / "state.pt", weights_only=True)["average"]
    for stage in range(4):
        assert not average[f"quantizer.stages.{stage}.has_codebook"]
        assert int(average[f"quantizer.stages.{stage}.steps"]) == 0


def test_another_quantizer_begins_with_a_trained_trunk(corpus, cache, tmp_path):
    train(rvq(corpus), tmp_path / "one", device="cpu", cache=cache)
    still = OptimizerConfig(lr=0.0)
    for place in ("one", "one/last"):
        recipe = fsq(corpus, start_from=str(tmp_path / place), optimizer=still, steps=1)
        target = tmp_path / f"from-{place.replace('/', '-')}"
        train(recipe, target, device="cpu", cache=cache)
        before = torch.load(tmp_path / "one" / "state.pt", weights_only=True)["average"]
        after = torch.load(target / "state.pt", weights_only=True)["average"]
        trunk = [name for name in after if not name.startswith("quantizer.")]
        assert len(trunk) > 40
        for name in trunk:
            assert torch.allclose(after[name], before[name], rtol=1e-5), name
    other = fsq(corpus, tiny_codecs.fsq_config(640), start_from=str(tmp_path / "one"))
    with pytest.raises(TrainingError):
        train(other, tmp_path / "refused", device="cpu", cache=cache)


def test_a_codebook_starts_from_the_latents():
    torch.manual_seed(0)
    quantizer = tiny_codecs.ts3().quantizer
    mixing = torch.randn(4, 8)
    latents = torch.randn(3000, 4) @ mixing + 0.01 * torch.randn(3000, 8) + 3
    start_codebook(quantizer, latents)
    codes = quantizer.encode(latents[None])
    assert len(codes.unique()) == 64
    error = (quantizer.decode(codes)[0] - latents).detach().square().sum()
    assert float(error / (latents - latents.mean(0)).square().sum()) < 0.2
    with pytest.raises(TrainingError, match="64 codes can't start from 63"):
        start_codebook(quantizer, latents[:63])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_level_dropout_takes_other_levels(corpus, share):
    torch.manual_seed(0)
    recipe = fsq(corpus, level_dropout=((2, 2, 2),), dropout_share=share)
    task = FSQTask(recipe)
    codes = task.quantize(5 * torch.randn(2, 50, 8), step=0).codes
    assert (int(codes.max()) < 8) == (share == 1.0)


@pytest.mark.parametrize("look_ahead", [0, 1, 3])
@torch.no_grad()
def test_a_crop_is_rendered_where_it_was(look_ahead):
    """The pitch of the second half is heard in the second half, whatever the decoder lags by."""
    config = tiny_codecs.network(decoder_look_ahead=look_ahead)
    torch.manual_seed(0)
    decoder = SpectralDecoder(config.latent_dim, config.decoder, config.head).eval()
    bins = config.head.window // 2 + 1
    decoder.head.gains.weight.zero_()
    decoder.head.gains.bias[:bins] = 0.0  # pulses as they are
    decoder.head.gains.bias[bins : 2 * bins] = -12.0  # and no noise
    decoder.head.gains.bias[2 * bins :] = 0.0
    samples, step = 6400, config.head.step
    pitch = torch.full((1, samples // step), 100.0)
    pitch[:, pitch.shape[1] // 2 :] = 200.0
    latents = torch.randn(1, samples // 320, config.latent_dim)
    wave, voicing = rendered(decoder, latents, config.delay, 320, samples, pitch)
    assert wave.shape == (1, samples) and voicing.logits.shape[:2] == pitch.shape
    assert voicing.pulse_level.shape == pitch.shape
    assert float(voicing.pulse_level[:, 20:].min()) > 4
    wave = wave[0] / wave.max()
    # With its power held, a faster pulse train has lower pulses.
    peaks = [
        n
        for n in range(400, samples - 1)
        if wave[n] > 0.4 and wave[n] >= wave[n - 1] and wave[n] > wave[n + 1]
    ]
    spacing = torch.tensor(peaks).diff()
    assert int(spacing[:5].float().median()) == 160 and int(spacing[-10:].float().median()) == 80
    change = next(peak for peak, gap in zip(peaks, spacing, strict=False) if gap < 130)
    assert abs(change - samples // 2) < 200


@pytest.mark.parametrize("hop", [200, 400])
def test_the_vocoder_hears_what_the_tokens_say(corpus, hop):
    task = VocoderTask(vocoder(corpus, hop))
    wave = torch.from_numpy(synthetic_speech(8000))
    heard = task.levels(wave[None])[0]
    tokenizer = DMel(DMelConfig(hop_length=hop))
    codes = tokenizer.encode(wave, 16000).codes[0]
    said = tokenizer.levels.float().gather(1, codes).T
    assert heard.shape == said.shape == (8000 // hop, 80)
    # Logarithms round at the edges of cells; codes have none.
    assert float(((heard - said).abs() > 1e-3).float().mean()) < 1e-3


def test_a_vocoder_of_other_frames_is_refused(corpus):
    with pytest.raises(TrainingError, match="hop and channels must be the tokenizer's"):
        VocoderRecipe(
            name="x", tokens=DMelConfig(hop_length=200), model=tiny_codecs.vocoder_config()
        )


@pytest.mark.parametrize("kind", ["rvq", "fsq", "ts3"])
def test_fine_tuning_what_ships_keeps_its_codes(kind, corpus, cache, tmp_path):
    """A codec for use lacks the quantizer's training state; its codebook is where a run begins."""
    make = {"rvq": tiny_codecs.rvq, "fsq": tiny_codecs.fsq, "ts3": tiny_codecs.ts3}[kind]
    shipped = make()
    export(shipped, tmp_path / "shipped")
    recipe = {"rvq": rvq, "fsq": fsq, "ts3": ts3}[kind](
        corpus,
        shipped.config,
        start_from=str(tmp_path / "shipped"),
        optimizer=OptimizerConfig(lr=0.0),
        start_batches=0 if kind == "rvq" else 8,
        steps=2,
        adversarial=None,
    )
    said = []
    observer = Observer()
    observer.said = said.append
    train(recipe, tmp_path / "run", device="cpu", cache=cache, observer=observer)
    assert not [line for line in said if "anew" in line]
    wave = torch.from_numpy(synthetic_speech(16_000))
    before = syllabary.load(tmp_path / "shipped").encode(wave, 16_000).codes
    after = syllabary.load(tmp_path / "run" / "last").encode(wave, 16_000).codes
    # A step moves the codes that it saw to the means of what they stand for.
    assert float((before[:, 0] == after[:, 0]).float().mean()) > 0.8
    other = fsq if kind == "rvq" else rvq
    model = tiny_codecs.fsq_config() if kind == "rvq" else tiny_codecs.rvq_config()
    again = other(
        corpus,
        dataclasses.replace(model, network=shipped.network),
        start_from=str(tmp_path / "shipped"),
        steps=1,
        adversarial=None,
    )
    train(again, tmp_path / "other", device="cpu", cache=cache, observer=observer)
    assert [line for line in said if "begins anew: the quantizer" in line]


@pytest.mark.parametrize("make", [rvq, fsq, ts3])
def test_the_decoder_alone_is_trained_and_tokens_stay_what_they_are(corpus, cache, tmp_path, make):
    train(make(corpus, adversarial=None), tmp_path / "whole", device="cpu", cache=cache)
    start = syllabary.load(tmp_path / "whole" / "last")
    fields = {"start_from": str(tmp_path / "whole"), "quantize_from": 0, "adversarial": None}
    further = make(corpus, decoder_only=True, **fields)
    train(further, tmp_path / "more", device="cpu", cache=cache)
    end = syllabary.load(tmp_path / "more" / "last")
    assert end.spec.tokens.digest == start.spec.tokens.digest
    wave = torch.from_numpy(synthetic_speech(16_000))
    tokens = start.encode(wave, 16_000)
    assert tokens.codes.equal(end.encode(wave, 16_000).codes)
    assert not torch.equal(start.decode(tokens)[0], end.decode(end.encode(wave, 16_000))[0])
    with pytest.raises(TrainingError, match="decoder_only: expected start_from"):
        make(corpus, decoder_only=True)


def test_the_decoder_alone_needs_no_teacher_and_says_so(corpus, cache, tmp_path):
    train(rvq(corpus, adversarial=None), tmp_path / "whole", device="cpu", cache=cache)
    said = []
    observer = Observer()
    observer.said = said.append
    alone = rvq(
        corpus,
        start_from=str(tmp_path / "whole" / "last"),
        quantize_from=0,
        adversarial=None,
        decoder_only=True,
        distillation=DistillationConfig(weight=1.0, encoder="runs/never-made"),
        transcript_weight=1.0,
    )
    train(alone, tmp_path / "more", device="cpu", cache=cache, observer=observer)
    assert {line.partition(" ")[0] for line in said if "no effect" in line} == {
        "distillation",
        "transcript_weight",
    }


def test_codes_that_would_be_others_are_refused(corpus, cache, tmp_path):
    """Levels are no weights, so the weights of other levels would fit."""
    train(fsq(corpus, adversarial=None), tmp_path / "whole", device="cpu", cache=cache)
    config = tiny_codecs.fsq_config()
    other = dataclasses.replace(config, levels=tuple(n - 1 for n in config.levels))
    fields = {"quantize_from": 0, "adversarial": None, "decoder_only": True}
    for place in ("whole", "whole/last", "whole/state.pt"):
        recipe = fsq(corpus, other, start_from=str(tmp_path / place), **fields)
        with pytest.raises(TrainingError, match=r"codes would not be .* model.levels differs"):
            train(recipe, tmp_path / "more", device="cpu", cache=cache)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.sample_rate": 24000}, "data.sample_rate is 24000, and the model's is 16000"),
        ({"supervision.mel.sample_rate": 8000}, "supervision.mel.sample_rate is 8000"),
        ({"data.crop_samples": 6500}, "a multiple of the frame, 320 samples, such as 6400"),
        ({"supervision.envelope_weight": 1, "supervision.envelope.bands": 40}, "has no bin"),
        ({"supervision.envelope_weight": 1, "supervision.envelope.frames": 0}, "frames and"),
        ({"supervision.texture_weight": 1, "supervision.texture.window_length": 1023}, "even"),
        ({"supervision.texture_weight": 1, "supervision.texture.bins": 2000}, "1 to 513 bins"),
        ({"supervision.texture_weight": 1, "supervision.texture.frames": 0}, "frames of 1 or"),
        ({"supervision.compressed.window_lengths": "511"}, "even"),
        ({"supervision.compressed.power": 0}, "a power above 0"),
        ({"supervision.compressed.floor": -1}, "floor of at least 0"),
        ({"supervision.loudness_weight": 1, "supervision.loudness.bands": 0}, "1 band or more"),
        ({"distillation.delay": -1}, "weight and delay of at least 0"),
        ({"distillation.codebooks": 0}, "codebooks of at least 1"),
        ({"distillation.clusters": 1}, "0, or at least 2"),
        ({"distillation.weight": 1, "distillation.delay": 500}, "less than the 40 frames"),
    ],
)
def test_settings_that_are_impossible_are_named_before_the_first_step(changes, message):
    given = [f"{name}={value}" for name, value in changes.items()]
    with pytest.raises(TrainingError, match=message):
        recipe = recipes.override(recipes.find("rvq-small"), given)
        recipes.find_task(recipe.task)(recipe)


@pytest.mark.parametrize("exclusive", [False, True])
def test_codebooks_that_learn_from_the_teacher_alone(corpus, exclusive):
    """The sound does not reach what they see; it reaches the encoder, and what they add to it."""
    distillation = DistillationConfig(
        weight=1.0, encoder=str(tiny_units.directory("hubert")), layer=2, exclusive=exclusive
    )
    task = RVQTask(rvq(corpus, distillation=distillation, adversarial=None))
    task.generator.train()
    quantizer = task.codec.quantizer
    torch.manual_seed(0)
    latents = torch.randn(2, 30, quantizer.dim, requires_grad=True)

    def gradients(loss):
        parts = [quantizer.stage(n).project_in.weight for n in range(2)]
        parts += [latents, quantizer.stage(0).project_out.weight]
        found = torch.autograd.grad(loss, parts, retain_graph=True, allow_unused=True)
        return [x is not None and bool(x.abs().sum() > 0) for x in found]

    quantizer.config = dataclasses.replace(quantizer.config, dropout=())
    quantized = task.quantize(latents, 0)
    assert all(parameter.requires_grad for parameter in quantizer.parameters())
    sound = quantized.quantized.square().sum() + quantized.losses["commitment"]
    assert gradients(sound) == [not exclusive, True, True, True]
    taught = task.first_codebooks(latents, quantized).square().sum()
    assert gradients(taught) == [True, False, True, True]


def test_transcripts_teach(corpus, cache, tmp_path):
    """Letters are learnt with the teacher's features or without, by whole utterances only."""
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    told = tmp_path / "told.jsonl"
    told.write_text(
        "".join(
            json.dumps(line | {"path": str(corpus / line["path"]), "text": "It's one."}) + "\n"
            for line in lines
        )
    )
    data = dataclasses.replace(rvq(corpus).data, manifest=str(told))
    fields = {"data": data, "transcript_weight": 0.5, "adversarial": None}
    with pytest.raises(TrainingError, match=r"none of \d+ utterances is at most 0.20 s long"):
        train(rvq(corpus, **fields), tmp_path / "short", device="cpu", cache=cache)
    fields["data"] = dataclasses.replace(data, crop_samples=64_000)
    teacher = DistillationConfig(weight=1.0, encoder=str(tiny_units.directory("hubert")), layer=2)
    for number, more in enumerate(({}, {"distillation": teacher})):
        recipe, place = rvq(corpus, **fields, **more), tmp_path / str(number)
        train(recipe, place, device="cpu", cache=cache)
        steps = [json.loads(line) for line in (place / "log.jsonl").read_text().split("\n")[:3]]
        assert [step["with_transcript"] for step in steps] == [1, 1, 1]
        assert all(step["transcripts"] > 0 for step in steps)
        state = torch.load(place / "state.pt", weights_only=True)
        assert "transcripts" in state["data"] and ("teacher" in state["data"]) == bool(more)
        names = syllabary.load(place / "last").state_dict()
        assert not [name for name in names if "letters" in name or "features" in name]
        said = []
        observer = Observer()
        observer.said = said.append
        further = dataclasses.replace(recipe, start_from=str(place), steps=1, distillation=teacher)
        train(further, tmp_path / f"{number}-on", device="cpu", cache=cache, observer=observer)
        anew = [line for line in said if "anew" in line]
        assert bool(anew) != bool(more)  # which the first had no layer for
        assert "letters" not in str(anew)
    # Other transcripts are other data.
    told.write_text(told.read_text().replace("one", "won"))
    longer = dataclasses.replace(
        recipe, steps=4, schedule=dataclasses.replace(recipe.schedule, decay_steps=3)
    )
    with pytest.raises(TrainingError, match="transcripts differ"):
        train(longer, place, device="cpu", cache=cache)


def test_teachers_teach(corpus, cache, tmp_path):
    """Content, distillation, texture and voicing losses; the teachers' digests hold a run."""
    teacher = str(tiny_units.directory("hubert"))
    supervision = dataclasses.replace(
        SUPERVISION,
        content_weight=1.0,
        content=ContentLossConfig(teacher),
        texture_weight=1.0,
        unvoiced_weight=1.0,
        bridged_pitch_weight=0.1,
    )
    distillation = DistillationConfig(weight=1.0, encoder=teacher, layer=2, delay=1)
    for kind, make in {"rvq": rvq, "ts3": ts3}.items():
        fields = {"supervision": supervision, "distillation": distillation, "adversarial": None}
        recipe = make(corpus, **fields)
        train(recipe, tmp_path / kind, device="cpu", cache=cache)
        lines = [
            json.loads(line) for line in (tmp_path / kind / "log.jsonl").read_text().split("\n")[:3]
        ]
        assert all(
            {"content", "distillation", "texture", "unvoiced"} <= set(line) for line in lines
        )
        tokenizer = syllabary.load(tmp_path / kind / "last")
        assert not [name for name in tokenizer.state_dict() if "features" in name]
        state = torch.load(tmp_path / kind / "state.pt", weights_only=True)
        assert {"content", "teacher"} <= state["data"].keys()
        # The layer that predicts goes on with a run that starts from this one.
        further = dataclasses.replace(recipe, start_from=str(tmp_path / kind), steps=1)
        said = []
        observer = Observer()
        observer.said = said.append
        train(further, tmp_path / f"{kind}-on", device="cpu", cache=cache, observer=observer)
        assert not [line for line in said if "anew" in line]
    # The same teacher elsewhere goes on; another one does not.
    moved = tmp_path / "moved"
    shutil.copytree(teacher, moved)
    longer = dataclasses.replace(
        recipe,
        schedule=dataclasses.replace(recipe.schedule, decay_steps=3),
        steps=4,
        supervision=dataclasses.replace(supervision, content=ContentLossConfig(str(moved))),
        distillation=dataclasses.replace(distillation, encoder=str(moved)),
    )
    assert train(longer, tmp_path / "ts3", device="cpu", cache=cache).step == 4
    other = dataclasses.replace(
        longer,
        steps=5,
        supervision=dataclasses.replace(
            supervision, content=ContentLossConfig(str(tiny_units.directory("wavlm")))
        ),
    )
    with pytest.raises(TrainingError, match="content differ"):
        train(other, tmp_path / "ts3", device="cpu", cache=cache)


def test_pulses_are_unwelcome_where_no_voice_is_near():
    supervision = Supervision(
        dataclasses.replace(SUPERVISION, unvoiced_weight=2.0, bridged_pitch_weight=0.5), 80, 16_000
    )
    pitch = torch.full((1, 40), 120.0)
    voiced = torch.zeros(1, 40, dtype=torch.bool)
    logits = torch.zeros(1, 40, 128)
    share = torch.ones(1, 40)
    all_pulses = supervision.voicing_losses(Voicing(logits, share), pitch, voiced)
    assert float(all_pulses["unvoiced"]) == pytest.approx(2.0)
    assert float(all_pulses["pitch"]) == pytest.approx(0.5 * math.log(128), rel=1e-3)
    voiced[:, 20] = True
    near = supervision.voicing_losses(Voicing(logits, share), pitch, voiced)
    # 20 ms on either side of the voiced point: four points of 5 ms.
    assert float(near["unvoiced"]) == pytest.approx(2.0 * 31 / 40)
