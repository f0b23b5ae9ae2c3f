"""Masked prediction of units: targets, perturbations and the task."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from syllabary.codecs.checkpoint import export
from syllabary.codecs.neural.layers.causal import StackConfig
from syllabary.errors import TrainingError
from syllabary.semantic.content.encoder import ContentConfig, ContentEncoder
from syllabary.semantic.units.tokenizer import UnitTokenizer
from syllabary.training import recipe_registry as recipes
from syllabary.training import state
from syllabary.training.content import targets
from syllabary.training.content.perturb import PerturbConfig, at_speeds, perturbed
from syllabary.training.content.targets import Cepstra, TargetsConfig, find_targets, smoothed
from syllabary.training.content.task import ContentTask, LayerFeatures, Predictor, truncated
from syllabary.training.data import build_store
from syllabary.training.data.utterance_units import UtteranceUnits, frame_starts
from syllabary.training.loop.ranks import Ranks
from syllabary.training.loop.step import Stepper
from syllabary.training.losses.content import without_outliers
from syllabary.training.task import Batch
from syllabary.training.training_set import TrainingSet

from ... import tiny_units
from ...conftest import synthetic_speech

SMALL = ContentConfig(layers=StackConfig(width=32, blocks=2), dim=16, look_ahead=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    lines = []
    for number, samples in enumerate((9_000, 16_000, 12_345, 20_000)):
        soundfile.write(folder / f"{number}.wav", synthetic_speech(samples, number), 16_000)
        fields = {"path": f"{number}.wav", "speaker": f"{number % 2}", "split": "train"}
        lines.append(json.dumps(fields) + "\n")
    (folder / "manifest.jsonl").write_text("".join(lines))
    return build_store(folder, tmp_path_factory.mktemp("store"), split="train")


def recipe(**changes):
    found = recipes.find("content-stage-1")
    data = replace(found.data, crop_samples=9_600, max_share=1.0)
    small = replace(found, model=SMALL, data=data, batch_size=4, num_units=20, unit_batches=4)
    return replace(small, targets=TargetsConfig(clusters=(10,), rows=150), **changes)


# --- units of utterances --------------------------------------------------------------------------


def test_units_are_found_once_and_lie_where_their_samples_are(store):
    starts = frame_starts(store, 320)
    assert starts.tolist() == [0, 29, 79, 118, 181]
    calls = []

    def find():
        calls.append(1)
        return np.stack([np.arange(181), 1000 + np.arange(181)])

    for _ in range(2):
        units = UtteranceUnits(store, 320, 2, find, "counting")
    assert len(calls) == 1
    names = [store.entries[1].name, store.entries[3].name]
    found, there = units.at(names, torch.tensor([[0, 319, 320, 15_999], [-1, 640, 19_999, 20_160]]))
    assert found[:, 0].tolist() == [[29, 29, 30, 78], [0, 120, 180, 0]]
    assert found[:, 1].tolist() == [[1029, 1029, 1030, 1078], [0, 1120, 1180, 0]]
    assert there.tolist() == [[True] * 4, [False, True, True, False]]


def test_a_damaged_file_of_units_is_an_error(store):
    UtteranceUnits(store, 320, 1, lambda: np.zeros((1, 181), int), "damaged")
    before = set(store.folder.glob("units-*.i32"))
    UtteranceUnits(store, 320, 1, lambda: np.zeros((1, 181), int), "another")
    (path,) = set(store.folder.glob("units-*.i32")) - before
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(TrainingError, match="180 units where 1 × 181"):
        UtteranceUnits(store, 320, 1, lambda: np.zeros((1, 181), int), "another")


def test_cepstra_are_those_of_librosa():
    import librosa

    wave = synthetic_speech(16_000, 3)
    found = Cepstra(16_000, 320)(torch.from_numpy(wave)[None])[0]
    assert found.shape == (50, 39)
    # The same windows: two a frame, centred at a quarter and three quarters of it.
    mel = librosa.feature.melspectrogram(
        y=np.pad(wave, (120, 280)), sr=16_000, n_fft=512, win_length=400, hop_length=160,
        center=False, power=1.0, n_mels=40, fmin=20, fmax=8000, window="hann",
    )  # fmt: skip
    # librosa centres the window in its FFT, so its frames begin 56 samples later.
    cepstra = librosa.feature.mfcc(S=np.log(np.maximum(mel, 1e-5)), n_mfcc=13)
    theirs = cepstra.T[: 2 * 49].reshape(49, 2, 13).mean(1)
    for column in range(1, 5):
        ours = found[:49, column].numpy()
        assert np.corrcoef(ours, theirs[:, column])[0, 1] > 0.97


def test_targets_do_not_depend_on_the_padding_that_comes_with_a_batch(store, monkeypatch):
    config = TargetsConfig(clusters=(5, 9), rows=181)
    units = find_targets(store, config, Cepstra(16_000, 320), 320)
    assert units.shape == (2, 181)
    assert units.min() == 0 and units[0].max() == 4 and units[1].max() == 8
    assert np.array_equal(units, find_targets(store, config, Cepstra(16_000, 320), 320))
    # One utterance a batch gives the same.
    alone = []
    monkeypatch.setattr(targets, "_BATCH_FRAMES", 1)

    def features(waves):
        alone.append(len(waves))
        return Cepstra(16_000, 320)(waves)

    assert np.array_equal(units, find_targets(store, config, features, 320))
    assert alone == [1] * 4


def test_smoothing_keeps_what_does_not_change_and_the_mean_of_what_does():
    steady = np.ones((9, 2))
    assert np.allclose(smoothed(steady, 2), steady)
    impulse = np.zeros((9, 1))
    impulse[4] = 1
    spread = smoothed(impulse, 1)[:, 0]
    assert spread.tolist() == pytest.approx([0, 0, 0, 0.25, 0.5, 0.25, 0, 0, 0])
    assert np.array_equal(smoothed(impulse, 0), impulse)


@pytest.mark.parametrize("clusters", [(), (1,), (500,)])
def test_impossible_targets_are_refused(clusters):
    with pytest.raises(TrainingError, match="clusters"):
        TargetsConfig(clusters=clusters, rows=100)


# --- perturbations --------------------------------------------------------------------------------


def test_speed_one_changes_nothing_and_others_move_the_pitch():
    time = torch.arange(16_000) / 16_000
    waves = torch.sin(2 * torch.pi * 200 * time).expand(3, -1)
    played = at_speeds(waves, torch.tensor([1.0, 1.2, 0.8]), 12_000)
    assert torch.equal(played[0], waves[0, :12_000])
    peaks = torch.fft.rfft(played).abs().argmax(1) * 16_000 / 12_000
    assert peaks.tolist() == pytest.approx([200, 240, 160], abs=1.4)


def test_a_channel_of_outlying_variance_does_not_decide_alone():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((500, 20)).astype(np.float32) * np.linspace(1, 2, 20, dtype="f4")
    rows[:, 7] *= 1000
    scale = without_outliers(rows)
    others = np.arange(20) != 7
    assert (scale[others] == 1).all()
    assert (rows * scale).std(0)[7] == pytest.approx(np.median(rows[:, others].std(0)), rel=0.1)
    assert (without_outliers(rows[:, others]) == 1).all()
    assert (without_outliers(np.ones((5, 3), np.float32)) == 1).all()


def test_units_of_another_encoder_are_not_those_of_its_largest_channel(store):
    config = TargetsConfig(encoder="x", clusters=(8,), rows=150)
    cepstra = Cepstra(16_000, 320)

    def with_outlier(waves):
        found = cepstra(waves)
        torch.manual_seed(found.shape[1])
        return torch.cat([found, 1e4 * torch.randn(*found.shape[:2], 1)], 2)

    def without(waves):
        return with_outlier(waves)[..., :-1]

    # The outlier counts as one typical channel among the others.
    found, wanted = (find_targets(store, config, f, 320) for f in (with_outlier, without))
    joint = np.zeros((8, 8))
    np.add.at(joint, (found[0], wanted[0]), 1)
    assert joint.max(1).sum() > 0.6 * joint.sum()


def test_nothing_to_do_changes_nothing():
    config = PerturbConfig(speed=1, noise=0, voices=0, room=0, tilt_db=0, gain_db=(0, 0))
    waves = torch.from_numpy(synthetic_speech(8_000, 0))[None].repeat(2, 1)
    assert torch.allclose(perturbed(waves, config, 16_000), waves, atol=1e-5)


def test_noise_comes_at_its_level():
    config = PerturbConfig(
        noise=1, noise_snr_db=(10, 10), voices=0, room=0, tilt_db=0, gain_db=(0, 0)
    )
    waves = torch.from_numpy(synthetic_speech(16_000, 0))[None].repeat(3, 1)
    noise = perturbed(waves, config, 16_000) - waves
    snr = 10 * torch.log10(waves.square().mean(1) / noise.square().mean(1))
    assert snr.tolist() == pytest.approx([10, 10, 10], abs=0.05)


def test_a_room_leaves_the_direct_sound_where_it_is():
    config = PerturbConfig(noise=0, voices=0, room=1, tilt_db=0, gain_db=(0, 0))
    click = torch.zeros(2, 8_000)
    click[:, 1000] = 1
    heard = perturbed(click, config, 16_000)
    assert heard[:, :999].abs().max() < 1e-4
    assert heard[:, 1000].tolist() == pytest.approx([1, 1], abs=1e-4)
    assert (heard[:, 1032:].square().sum(1) > 0.2).all()


# --- the encoder and the task ---------------------------------------------------------------------


def test_the_first_layers_of_an_encoder_are_an_encoder():
    torch.manual_seed(0)
    encoder = ContentEncoder(SMALL)
    wave = torch.from_numpy(synthetic_speech(6_400, 1))[None]
    whole, first = LayerFeatures(encoder)(wave), LayerFeatures(encoder, 1)(wave)
    assert whole.shape == first.shape == (1, 20, 32)
    assert len(truncated(encoder, 1).stack.blocks) == 1
    assert first.mean(2).abs().max() < 0.05  # a norm without gains


def _task(store, **changes):
    task = ContentTask(recipe(**changes))
    task.prepare(TrainingSet(task.recipe, store))
    return task


def _batch(store, task):
    crop = TrainingSet(task.recipe, store).crops().batch(0)
    return Batch(crop.waves, crop.waves, crop.lengths, crop.names, crop.starts)


def test_masked_frames_are_not_heard(store):
    torch.manual_seed(0)
    model = Predictor(SMALL, (10,))
    heard = torch.randn(1, 30, SMALL.num_inputs)
    masked = torch.zeros(1, 30, dtype=torch.bool)
    masked[:, 10:20] = True
    other = heard.clone()
    other[:, 10:20] = 7.0
    assert torch.equal(model(heard, masked)[0], model(other, masked)[0])
    assert not torch.equal(model(heard, ~masked)[0], model(other, masked)[0])


def test_a_step_lowers_the_loss_and_leaves_a_tokenizer(store):
    torch.manual_seed(0)
    plain = PerturbConfig(speed=1, noise=0, voices=0, room=0, tilt_db=0)
    task = _task(store, perturb=plain, steps=40)
    stepper = Stepper(task, _one_rank())
    batch = _batch(store, task)
    losses = [stepper.take(batch, step)[0]["total"] for step in range(30)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    tokenizer = task.tokenizer(stepper.average.module)
    assert isinstance(tokenizer, UnitTokenizer)
    assert tokenizer.spec.tokens.codebook_sizes == (20,)
    codes = tokenizer.encode(synthetic_speech(16_000, 0), 16_000).codes
    assert codes.shape == (1, 1, 50) and len(codes.unique()) > 3
    assert not task.caution(40)


def test_what_it_saves_may_be_means_of_principal_components(store):
    torch.manual_seed(0)
    task = _task(store, evenness=0.0, averaged=3)
    tokenizer = task.tokenizer(task.generator)
    encoder = tokenizer.encoder.network
    assert encoder.config == replace(SMALL, look_ahead=3, averaged=3)
    weight = encoder.outward.weight
    assert torch.allclose(weight @ weight.T, torch.eye(16), atol=1e-5)
    wave = synthetic_speech(16_000, 0)
    plain = ContentEncoder(SMALL)
    plain.load_state_dict(encoder.state_dict())
    single = LayerFeatures(plain, projected=True)(torch.from_numpy(wave)[None])[0]
    means = LayerFeatures(encoder, projected=True)(torch.from_numpy(wave)[None])[0]
    middle = single.unfold(0, 3, 1).mean(-1)
    assert torch.allclose(means[1:-1], middle, atol=1e-5)
    with pytest.raises(TrainingError, match="odd number"):
        ContentTask(recipe(averaged=2))
    with pytest.raises(TrainingError, match="evenness"):
        ContentTask(recipe(evenness=1.5))


def test_the_next_run_predicts_units_of_a_layer(store, tmp_path):
    torch.manual_seed(0)
    task = _task(store)
    weights = task.generator.state_dict()
    state.save(tmp_path / state.STATE_FILE, {"average": weights})
    wanted = TargetsConfig(teacher=str(tmp_path), layer=1, clusters=(6, 12), rows=181)
    following = ContentTask(replace(recipe(), targets=wanted))
    following.prepare(TrainingSet(following.recipe, store))
    following.begin_with(weights)
    for name, value in following.generator.encoder.stack.state_dict().items():
        assert torch.equal(value, task.generator.encoder.stack.state_dict()[name])
    torch.manual_seed(0)
    generated = following.generate(_batch(store, following), 0)
    assert set(generated.losses) == {"units/0", "units/1"}


def test_a_run_begins_with_the_encoder_of_a_tokenizer(store, tmp_path):
    torch.manual_seed(0)
    task = _task(store)
    export(task.tokenizer(task.generator), tmp_path)
    wanted = TargetsConfig(teacher=str(tmp_path), layer=2, clusters=(6,), rows=181)
    following = ContentTask(replace(recipe(), targets=wanted, start_from=str(tmp_path)))
    following.prepare(TrainingSet(following.recipe, store))
    following.begin_with(state.beginning(tmp_path)["average"])
    own, before = (t.generator.encoder.stack.state_dict() for t in (following, task))
    assert all(torch.equal(own[name], before[name].half().float()) for name in before)


def test_a_teacher_may_give_what_comes_out_of_it(store, tmp_path):
    """And the student's projection, which is not trained, may have another size."""
    torch.manual_seed(0)
    task = _task(store)
    export(task.tokenizer(task.generator), tmp_path)
    wanted = TargetsConfig(teacher=str(tmp_path), layer=0, clusters=(6,), rows=181)
    narrow = replace(SMALL, dim=SMALL.dim - 1)
    following = ContentTask(replace(recipe(), targets=wanted, model=narrow))
    following.prepare(TrainingSet(following.recipe, store))
    following.begin_with(state.beginning(tmp_path)["average"])
    last = replace(wanted, layer=2)
    of_layer = ContentTask(replace(recipe(), targets=last))
    of_layer.prepare(TrainingSet(of_layer.recipe, store))
    assert not np.array_equal(following._targets._units, of_layer._targets._units)
    tokenizer = following.tokenizer(following.generator)
    assert tokenizer.encoder.dims == (SMALL.dim - 1,)


def test_a_teacher_is_what_it_says_it_is(store, tmp_path):
    torch.manual_seed(0)
    task = _task(store)
    content = {"average": task.generator.state_dict(), "recipe": recipes.as_json(task.recipe)}
    state.save(tmp_path / state.STATE_FILE, content)
    wanted = TargetsConfig(teacher=str(tmp_path), layer=1, clusters=(6,), rows=181)
    farther = replace(SMALL, look_ahead=3)
    following = ContentTask(replace(recipe(), targets=wanted, model=farther))
    following.prepare(TrainingSet(following.recipe, store))
    same = ContentTask(replace(recipe(), targets=wanted))
    same.prepare(TrainingSet(same.recipe, store))
    # The teacher answers at its own look-ahead, whatever the student's is.
    assert np.array_equal(following._targets._units, same._targets._units)
    assert following.digests() == same.digests() != task.digests()
    deeper = ContentTask(replace(recipe(), targets=replace(wanted, layer=3)))
    with pytest.raises(TrainingError, match="layer 3 of an encoder with 2"):
        deeper.prepare(TrainingSet(deeper.recipe, store))


@pytest.mark.parametrize("wrong", [{"mask_share": 1.0}, {"mask_frames": 0}])
def test_impossible_masks_are_refused(wrong):
    with pytest.raises(TrainingError, match="mask"):
        ContentTask(recipe(**wrong))


def test_crops_that_are_too_short_are_refused():
    short = replace(recipe().data, crop_samples=600)
    with pytest.raises(TrainingError, match="too short"):
        ContentTask(replace(recipe(), data=short))


def _one_rank():
    return Ranks(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("name", ["hubert", "whisper"])
def test_units_may_be_a_published_encoders(name, store, tmp_path, monkeypatch):
    """Also where an utterance is longer than the encoder has positions; wherever it lies."""
    pytest.importorskip("transformers")
    monkeypatch.setattr(targets, "_PIECE_SECONDS", 1)
    directory = tiny_units.directory(name)
    config = TargetsConfig(encoder=str(directory), layer=2, clusters=(10, 20), rows=150)
    task = ContentTask(replace(recipe(), targets=config))
    task.prepare(TrainingSet(task.recipe, store))
    found = task._targets._units
    assert found.shape == (2, int(frame_starts(store, 320)[-1]))
    assert len(np.unique(found[0])) > 5 and found[1].max() > 9
    moved = tmp_path / "moved"
    shutil.copytree(directory, moved)
    again = ContentTask(replace(recipe(), targets=replace(config, encoder=str(moved))))
    # Found already: nothing is computed again.
    monkeypatch.setattr("syllabary.training.content.task.find_targets", None)
    again.prepare(TrainingSet(again.recipe, store))
    assert again.digests() == task.digests() and np.array_equal(again._targets._units, found)


def test_one_teacher_is_enough():
    with pytest.raises(TrainingError, match="not both"):
        TargetsConfig(teacher="runs/x", encoder="openai/whisper-base")
