"""Recipes as JSON, by name, and changed by a command line."""

import json

import pytest

from syllabary.errors import TrainingError
from syllabary.training import recipe_registry as recipes

from .loop import tiny


def test_a_recipe_survives_json(tmp_path):
    recipe = tiny.recipe("corpus", adversarial=None)
    path = tmp_path / "recipe.json"
    recipes.write(recipe, path)
    assert recipes.read(path) == recipe
    assert recipes.find(str(path)) == recipe and recipes.find(str(tmp_path)) == recipe
    assert json.loads(path.read_text())["task"] == "tiny"


def test_the_recipes_that_ship_survive_json():
    for name in recipes.RECIPES:
        recipe = recipes.find(name)
        fields = json.loads(json.dumps(recipes.as_json(recipe)))
        assert recipes.from_fields(fields, name) == recipe
        assert issubclass(recipes.find_task(recipe.task).Recipe, type(recipe))


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("optimizer.lr=2e-4", "optimizer.lr", 2e-4),
        ("optimizer.lr=1", "optimizer.lr", 1.0),
        ("model.width=256", "model.width", 256),
        ("steps=1e5", "steps", 100_000),
        ("optimizer.betas=0.5,0.9", "optimizer.betas", (0.5, 0.9)),
        ("optimizer.betas=[0.5, 0.9]", "optimizer.betas", (0.5, 0.9)),
        ("optimizer.fused=false", "optimizer.fused", False),
        ("name=12", "name", "12"),
        ("data.manifest=a=b", "data.manifest", "a=b"),
        ("data.exclude_sources=fsdd", "data.exclude_sources", ("fsdd",)),
        ("data.exclude_sources=a,b", "data.exclude_sources", ("a", "b")),
        ("data.exclude_sources=", "data.exclude_sources", ()),
        ("adversarial=null", "adversarial", None),
        ("adversarial=none", "adversarial", None),
        ("schedule.decay=constant", "schedule.decay", "constant"),
        ("schedule.decay_steps=5", "schedule.decay_steps", 5),
        (
            "model.quantizer.quantizer.codebook_size=64",
            "model.quantizer.quantizer.codebook_size",
            64,
        ),
        ('balancer={"fractions": {"mel": 1}}', "balancer.fractions", {"mel": 1.0}),
    ],
)
def test_overrides(text, field, value):
    found = recipes.override(tiny.recipe(), [text])
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


def test_overrides_count_all_at_once():
    """A value that is valid only with another one may stand before it."""
    assignments = ["decoder_only=true", "quantize_from=9", "start_from=ts3-16k"]
    assignments += ["keep_quantizer=true", "quantize_from=0"]
    recipe = recipes.override(recipes.find("ts3-16k"), assignments)
    assert recipe.decoder_only and recipe.quantize_from == 0 and recipe.keep_quantizer
    with pytest.raises(TrainingError, match=r"decoder_only: expected .* keep_quantizer=true"):
        recipes.override(recipes.find("ts3-16k"), ["steps=3", *assignments[:3]])


def test_overrides_of_a_mapping():
    recipe = recipes.override(
        tiny.recipe(), ['balancer={"fractions": {"mel": 1}}', "balancer.fractions.mel=2"]
    )
    assert recipe.balancer.fractions == {"mel": 2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "optimizer.rl=1",
            r"no field 'optimizer.rl' in OptimizerConfig; did you mean optimizer.lr \(float\)",
        ),
        ("model.widht=1", r"did you mean model.width \(int\)\?"),
        ("weight_decay=1", r"did you mean optimizer.weight_decay \(float\)\?"),
        ("zzz=1", r"no field 'zzz' in TinyRecipe; there are: name, seed"),
        ("model.width=wide", r"model.width must be int, got 'wide'"),
        ("model.width=2.5", r"model.width must be int, got 2.5"),
        ("model.width=true", r"model.width must be int, got True"),
        ("optimizer.betas=1", r"optimizer.betas must be tuple\[float, float\], got"),
        ("schedule.decay=linear", r"schedule.decay must be one of cosine, exponential, constant"),
        ("optimizer.lr=-1", r"optimizer.lr=-1: lr, .* must not be negative"),
        ("steps=0", "steps=0: steps, batch_size and log_every must be at least 1"),
        ("name.x=1", r"name is str, here 'tiny': it has no field 'x'"),
        ("balancer.decay=1", r"balancer is BalancerConfig \| null, here None: it has no field"),
        ("model.quantizer.quantizer.metric=x", "model.quantizer.quantizer.metric must be one of"),
        ("steps", "expected FIELD=VALUE, got 'steps'"),
    ],
)
def test_overrides_that_are_refused(text, message):
    with pytest.raises(TrainingError, match=message):
        recipes.override(tiny.recipe(), [text])


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "recipe.json"
    fields = recipes.as_json(tiny.recipe())
    for change, message in [
        ({"format": "x"}, "not a recipe"),
        ({"format_version": 9}, "format version 9"),
        ({"task": "os:system"}, "no task 'os:system'"),
        ({"recipe": {"steps": 3}}, "name missing"),
        ({"recipe": {"name": "a", "optimizer": {"lr": "fast"}}}, "optimizer.lr must be float"),
        ({"recipe": {"name": "a", "nme": 1}}, "did you mean name"),
    ]:
        path.write_text(json.dumps(fields | change))
        with pytest.raises(TrainingError, match=message) as caught:
            recipes.read(path)
        assert str(path) in str(caught.value)
    path.write_text("{")
    with pytest.raises(TrainingError, match=r"recipe.json"):
        recipes.read(path)
    with pytest.raises(TrainingError, match="no recipe 'rvq-99k'; there are"):
        recipes.find("rvq-99k")


def test_two_tasks_of_one_name():
    class Other(tiny.TinyTask):
        pass

    with pytest.raises(TrainingError, match="another task of the name 'tiny'"):
        recipes.register(Other)
