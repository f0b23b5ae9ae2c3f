"""What a run computes, writes and refuses."""

import json
import math

import pytest
import torch

import syllabary
from syllabary.errors import SyllabaryError, TrainingError
from syllabary.training import precision
from syllabary.training import recipe_registry as recipes
from syllabary.training.loop import Observer, train
from syllabary.training.loop.board import Board
from syllabary.training.loop.feed import Feed
from syllabary.training.loop.journal import Journal
from syllabary.training.loop.ranks import Ranks
from syllabary.training.loop.step import Stepper
from syllabary.training.loop.validation import Validator, is_better
from syllabary.training.recipe import BalancerConfig, DataConfig

from . import tiny

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


def stepper(recipe, cache):
    torch.manual_seed(recipe.seed)
    return Stepper(tiny.TinyTask(recipe), ALONE), Feed(recipe, ALONE, cache)


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_it_learns_and_leaves_what_it_says(corpus, cache, tmp_path):
    heard = []

    class Listener(Observer):
        def validated(self, result, best):
            heard.append((result.step, best))

    recipe = tiny.recipe(corpus, steps=40, adversarial=None)
    outcome = train(
        recipe,
        tmp_path,
        metrics={"level": lambda reference, estimate, rate: float(abs(estimate).max())},
        device="cpu",
        cache=cache,
        observer=Listener(),
    )
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(2, 41, 2))
    judged = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in judged] == [6, 12, 18, 24, 30, 36, 40]
    assert heard == [(line["step"], line["best"]) for line in judged]
    assert judged[-1]["scores"]["mel"] < judged[0]["scores"]["mel"] - 0.5
    best = min(judged, key=lambda line: line["scores"]["mel"])
    assert outcome.best == (best["scores"]["mel"], best["step"])
    assert best["counts"] == {"mel": 2, "level": 2}
    assert recipes.read(tmp_path / "recipe.json") == recipe
    for name in ("best", "last"):
        assert recipes.find(str(tmp_path / name)) == recipe
        assert syllabary.load(tmp_path / name).config == recipe.model
    assert not list(tmp_path.glob(".*.old")) and not list(tmp_path.glob(".*.new"))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    last = syllabary.load(tmp_path / "last").state_dict()
    for name, value in state["average"].items():
        assert torch.equal(last[f"codec.{name}"], value)


def test_the_average_and_the_rate_are_what_the_papers_say(corpus, cache):
    recipe = tiny.recipe(corpus, adversarial=None)
    run, feed = stepper(recipe, cache)
    expected = {name: p.detach().double() for name, p in run.task.generator.named_parameters()}
    for step in range(5):
        figures, _ = run.take(feed.batch(step), step)
        warm = min(1, (step + 1) / 4)
        cosine = 0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * step / 14))
        assert figures["lr"] == pytest.approx(3e-3 * warm * cosine)
        decay = min(0.999, (1 + step) / (10 + step))
        for name, parameter in run.task.generator.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach().double()
    for name, parameter in run.average.module.named_parameters():
        assert torch.allclose(parameter.double(), expected[name], atol=1e-6), name


def test_muon_has_the_matrices_that_the_task_names(corpus, cache):
    run, feed = stepper(tiny.recipe(corpus, adversarial=None), cache)
    matrix = run.task.generator.encoder[2].weight
    before = matrix.detach().clone()
    config = run.recipe.optimizer
    run.take(feed.batch(0), 0)
    # An orthogonal matrix (to bfloat16's and five iterations' precision) of Adam's size.
    update = before * (1 - config.weight_decay * config.muon_lr / 4) - matrix.detach()
    lengths = torch.linalg.svdvals(update) / (config.muon_lr / 4 * 0.2 * max(matrix.shape) ** 0.5)
    assert lengths.min() > 0.5 and lengths.max() < 1.4
    none, _ = stepper(tiny.recipe(corpus, optimizer=tiny.OptimizerConfig()), cache)
    assert none.optimizer.muon is None


def test_gradients_are_clipped(corpus, cache):
    config = tiny.OptimizerConfig(clip_norm=1e-3)
    run, feed = stepper(tiny.recipe(corpus, adversarial=None, optimizer=config), cache)
    figures, _ = run.take(feed.batch(0), 0)
    assert figures["gradient_norm"] > 1e-2
    grads = [p.grad for p in run.task.generator.parameters() if p.grad is not None]
    assert float(torch.nn.utils.get_total_norm(grads)) == pytest.approx(1e-3, rel=1e-3)


def test_the_discriminator_joins_at_its_step_and_learns_at_every_second(corpus, cache):
    run, feed = stepper(tiny.recipe(corpus), cache)
    for step in range(8):
        before = weights(run.task.discriminator)
        figures, _ = run.take(feed.batch(step), step)
        changed = any(
            not torch.equal(value, before[name])
            for name, value in run.task.discriminator.state_dict().items()
        )
        assert changed == ("discriminator/game" in figures) == (step in (4, 6))
        assert ("adversarial" in figures) == (step >= 4)
        assert all(p.requires_grad for p in run.task.discriminator.parameters())


def test_frozen_parts_stay_whatever_the_weight_decay(corpus, cache):
    run, feed = stepper(tiny.recipe(corpus, freeze_encoder_from=2), cache)
    for step in range(5):
        before = weights(run.task.generator)
        run.take(feed.batch(step), step)
        moved = {n for n, v in run.task.generator.state_dict().items() if not v.equal(before[n])}
        assert any(name.startswith("decoder") for name in moved)
        assert any(name.startswith("encoder") for name in moved) == (step < 2)
        # Its codebooks are buffers, which evaluation mode keeps as they are.
        assert any(name.startswith("quantizer") for name in moved) == (step < 2)
    assert not run.task.generator.encoder.training and run.task.generator.decoder.training


def test_autocast_leaves_weights_and_losses_wide(corpus, cache, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda kind: True)  # however slow it is here
    run, feed = stepper(tiny.recipe(corpus, bf16=True), cache)
    seen = []
    run.task.generator.decoder.register_forward_hook(lambda module, i, out: seen.append(out.dtype))
    losses = [run.take(feed.batch(step), step)[0]["total"] for step in range(6)]
    assert set(seen) == {torch.bfloat16} and all(map(math.isfinite, losses))
    for module in (run.task.generator, run.task.discriminator, run.average.module):
        assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_files_that_cannot_be_used_are_said(cache, tmp_path):
    corpus = tiny.write_corpus(tmp_path / "corpus")
    (corpus / "0.wav").write_bytes(b"no audio")
    heard = []

    class Listener(Observer):
        def said(self, message):
            heard.append(message)

    recipe = tiny.recipe(corpus, steps=1)
    train(recipe, tmp_path / "run", device="cpu", cache=tmp_path / "c", observer=Listener())
    assert any("1 files can't be used; the first, 0.wav" in message for message in heard)


def test_balanced_losses_have_their_shares_and_the_others_their_weights(corpus, cache):
    recipe = tiny.recipe(corpus, adversarial=None, balancer=BalancerConfig(fractions={"mel": 1.0}))
    run, feed = stepper(recipe, cache)
    seen = {}

    def listen(module, inputs, out):
        out[0].register_hook(lambda gradient: seen.update(wave=gradient.clone()))

    run.task.generator.register_forward_hook(listen)
    figures, _ = run.take(feed.batch(0), 0)
    # At the first step the average is the norm itself: rows' gradients then sum to 1.
    assert float(seen["wave"].norm(dim=1).sum()) == pytest.approx(1.0, rel=1e-4)
    assert figures["norm/mel"] > 0
    # The commitment reaches the encoder beside it.
    assert any(p.grad.abs().sum() > 0 for p in run.task.generator.encoder.parameters())


def test_a_step_is_a_function_of_state_batch_and_number(corpus, cache):
    """Not of what random numbers were drawn before, nor of when the batch was made."""
    found = []
    for noise in (0, 17):
        run, feed = stepper(tiny.recipe(corpus), cache)
        torch.randn(noise)
        found.append([run.take(feed.batch(step), step)[0] for step in range(6)])
    assert found[0] == found[1]


def test_what_is_not_finite_stops_and_is_kept(corpus, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_NAN_AT", "5")
    recipe = tiny.recipe(corpus)
    with pytest.raises(
        TrainingError, match=r"step 5: the loss mel is nan.*last state is of step 3"
    ):
        train(recipe, tmp_path, device="cpu", cache=cache)
    kept = torch.load(tmp_path / "bad-batch.pt", weights_only=True)
    batch = Feed(recipe, ALONE, cache).batch(5)
    assert kept["step"] == 5 and "mel" in kept["reason"]
    assert kept["names"] == list(batch.names) and kept["starts"] == list(batch.starts)
    assert torch.equal(kept["inputs"], batch.inputs)
    assert all(
        torch.isfinite(value).all()
        for value in torch.load(tmp_path / "state.pt", weights_only=True)["generator"].values()
    )
    monkeypatch.delenv("TINY_NAN_AT")
    assert train(recipe, tmp_path, device="cpu", cache=cache).reason == "done"


def test_starting_from_another_run(corpus, cache, tmp_path):
    train(tiny.recipe(corpus, steps=4), tmp_path / "one", device="cpu", cache=cache)
    state = torch.load(tmp_path / "one" / "state.pt", weights_only=True)
    recipe = tiny.recipe(
        corpus, steps=1, start_from=str(tmp_path / "one"), optimizer=tiny.OptimizerConfig(lr=0.0)
    )
    train(recipe, tmp_path / "two", device="cpu", cache=cache)
    found = torch.load(tmp_path / "two" / "state.pt", weights_only=True)
    for name, value in state["average"].items():
        if name.startswith(("encoder", "decoder")):
            assert torch.equal(found["generator"][name], value), name
    other = tiny.recipe(
        corpus, steps=1, start_from=str(tmp_path / "one"), model=tiny.TinyConfig(width=8)
    )
    with pytest.raises(TrainingError, match="start_from: the modules do not fit"):
        train(other, tmp_path / "three", device="cpu", cache=cache)


def test_two_runs_in_one_folder(corpus, cache, tmp_path):
    class Second(Observer):
        def started(self, recipe, step):
            with pytest.raises(TrainingError, match="another process trains here"):
                train(recipe, tmp_path, device="cpu", cache=cache)

    train(tiny.recipe(corpus, steps=1), tmp_path, device="cpu", cache=cache, observer=Second())


def test_what_is_refused_before_anything_is_written(corpus, cache, tmp_path, monkeypatch):
    monkeypatch.delenv("SYLLABARY_SPEECH", raising=False)
    run = tmp_path / "run"
    validation = tiny.ValidationConfig(best_by="beauty")
    with pytest.raises(TrainingError, match="'beauty', and what can be scored is mel"):
        train(tiny.recipe(corpus, validation=validation), run, device="cpu")
    assert not run.exists()
    with pytest.raises(TrainingError, match=r"set data.manifest or \$SYLLABARY_SPEECH"):
        train(tiny.recipe(), run, device="cpu", cache=cache)


def test_an_adversarial_recipe_needs_a_discriminator(corpus):
    task = tiny.TinyTask(tiny.recipe(corpus))
    task.discriminator = None
    with pytest.raises(TrainingError, match="made no discriminator"):
        Stepper(task, ALONE)


def test_noise_reaches_inputs_and_not_targets(corpus, cache):
    augment = tiny.AugmentConfig(
        gain_probability=0, polarity_probability=0, noise_probability=1.0, noise_in_target=False
    )
    data = DataConfig(manifest=str(corpus), noise=str(corpus), crop_samples=800, augment=augment)
    feed = Feed(tiny.recipe(data=data), ALONE, cache)
    batch = feed.batch(0)
    assert not torch.equal(batch.inputs, batch.targets)
    assert set(feed.digests()) == {"train", "noise"}


def test_scores_are_means_over_what_could_be_scored(corpus, cache):
    recipe = tiny.recipe(corpus)
    task = tiny.TinyTask(recipe)
    feed = Feed(recipe, ALONE, cache)
    calls = []

    def moody(reference, estimate, rate):
        assert reference.shape == estimate.shape and rate == 16000
        calls.append(1)
        if len(calls) == 1:
            raise SyllabaryError("not today")
        return 3.0

    metrics = {"moody": moody, "endless": lambda *_: math.inf}
    result = Validator(feed.validation(), 16000, metrics, 1)(task.tokenizer(task.generator), 7)
    assert result.means["moody"] == 3.0 and result.counts == {"mel": 2, "moody": 1, "endless": 0}
    assert result.missing["moody"] == "not today" and "inf" in result.missing["endless"]
    assert "endless" not in result.means and result.utterances == 2
    assert len(result.examples) == 1 and result.step == 7
    assert is_better("mel", 1.0, 2.0) and is_better("PESQ-wb", 2.0, 1.0)
    assert not is_better("mel", 2.0, 2.0) and is_better("mel", 2.0, None)


def test_the_log_forgets_what_comes_after_the_state(tmp_path):
    path = tmp_path / "log.jsonl"
    journal = Journal(path, 0)
    for step in (1, 2, 3):
        journal.write("train", step, loss=0.1 * step)
    journal.close()
    with path.open("a") as file:
        file.write('{"kind": "tr')
    journal = Journal(path, 2)
    journal.write("train", 3, loss=1.0)
    journal.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.1), (2, 0.2), (3, 1.0)]


def test_tensorboard_gets_curves_pictures_and_sound(corpus, cache, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = tiny.recipe(corpus)
    task, feed = tiny.TinyTask(recipe), Feed(recipe, ALONE, cache)
    result = Validator(feed.validation(), 16000, {}, 1)(task.tokenizer(task.generator), 6)
    board = Board(tmp_path, 0, 16000)
    board.figures(2, {"mel": 1.5})
    board.validation(result)
    board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == {"train/mel", "validation/mel"}
    assert {tag.split("/", 2)[2] for tag in tags["audio"]} == {"original", "decoded"}
    assert len(tags["images"]) == 1
    assert events.Scalars("train/mel")[0].value == 1.5


def test_what_a_run_leaves_loads_as_a_tokenizer(corpus, cache, tmp_path):
    """With a tokenizer that `save_pretrained` of the package writes."""

    class Plain(tiny.TinyTask):
        def tokenizer(self, generator):
            return syllabary.load("dmel")

    recipe = tiny.recipe(corpus, steps=1, adversarial=None)
    recipes.TASKS["tiny"] = Plain
    try:
        train(recipe, tmp_path, device="cpu", cache=cache)
    finally:
        recipes.TASKS["tiny"] = tiny.TinyTask
    assert syllabary.load(str(tmp_path / "best")).family == "dmel"
