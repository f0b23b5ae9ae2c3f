"""Published encoders: the features of transformers' own pipeline, from files on disk."""

import json
import shutil
import threading

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from syllabary.errors import CheckpointError, UnknownTokenizerError
from syllabary.semantic.encoders import catalogue
from syllabary.semantic.encoders.layers import LayerChoice
from syllabary.semantic.encoders.pretrained import Pretrained

from ... import tiny_units
from ...conftest import synthetic_speech

NAMES = tuple(tiny_units.MODELS)


def speech(num_samples: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(synthetic_speech(num_samples, seed))


def published_layers(name: str, wave: torch.Tensor) -> dict[int, torch.Tensor]:
    """Every layer's output (frames, width) of transformers' model and feature extractor."""
    import transformers

    directory = tiny_units.directory(name)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(directory)
    model = transformers.AutoModel.from_pretrained(directory).eval()
    encoder = model.get_encoder() if name == "whisper" else model
    inputs = extractor(wave.numpy(), sampling_rate=16000, return_tensors="pt")
    outputs: dict[int, torch.Tensor] = {}
    layers = encoder.layers if name == "whisper" else encoder.encoder.layers
    for number, layer in enumerate(layers, 1):
        layer.register_forward_hook(
            lambda _, __, output, number=number: outputs.update(
                {number: (output[0] if isinstance(output, tuple) else output)[0]}
            )
        )
    with torch.no_grad():
        if name == "whisper":
            outputs[-1] = encoder(inputs["input_features"]).last_hidden_state[0]
        else:
            outputs[-1] = model(**inputs).last_hidden_state[0]
    return outputs


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_those_of_the_publishers_pipeline(name):
    """Zeros after the end add a frame, which attention and normalisation over time hear a little.

    Whisper's windows end in zeros anyway.
    """
    wave = speech(400 + 320 * 90)
    plain = published_layers(name, wave)
    worst = 0.0
    for layers in ((2,), (-1,), (3, 1)):
        encoder = tiny_units.encoder(name, choice=LayerChoice(layers))
        found = encoder.features([wave])[0]
        assert found.shape == (92, 16 * len(layers))
        expected = torch.cat([plain[layer] for layer in layers], 1)[:90]
        error = (found[: len(expected)] - expected).norm() / expected.norm()
        worst = max(worst, float(error))
    print(f"{name}: {worst:.2g} of the features' norm")
    assert worst < (1e-5 if name == "whisper" else 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_that_runs_is_the_published_one(name):
    """Given the same input, layers are equal to float32's precision, and no more of them run."""
    import transformers

    wave = speech(320 * 50)
    encoder = tiny_units.encoder(name, choice=LayerChoice((2,)))
    inputs = encoder.front_end(wave)
    model = transformers.AutoModel.from_pretrained(tiny_units.directory(name)).eval()
    model = model.get_encoder() if name == "whisper" else model
    with torch.no_grad():
        states = model(inputs, output_hidden_states=True).hidden_states
    found = encoder.features([wave])[0]
    layers = encoder.model.layers if name == "whisper" else encoder.model.encoder.layers
    assert len(layers) == 2 < len(states) - 1
    scale = float(states[2].abs().max())
    assert torch.allclose(found, states[2][0, : len(found)], atol=1e-4 * scale)


def test_normalisation_is_as_the_preprocessor_says():
    wave = speech(6400) + 0.2
    normalised = tiny_units.encoder("hubert").front_end(wave)[0, :6400]
    assert abs(float(normalised.mean())) < 1e-3 and abs(float(normalised.std()) - 1) < 1e-2
    assert torch.equal(tiny_units.encoder("wavlm").front_end(wave)[0, :6400], wave)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_samples", [0, 1, 79, 80, 320, 399, 401, 4000])
def test_length_law(name, num_samples):
    features = tiny_units.encoder(name).features([speech(num_samples)])[0]
    assert features.shape == (-(-num_samples // 320), 16)
    assert bool(features.isfinite().all())


def test_layers_are_put_together():
    wave = speech(9000)
    one, three = (
        tiny_units.encoder("hubert", choice=LayerChoice((layer,))).features([wave])[0]
        for layer in (1, 3)
    )

    def features(*choice):
        encoder = tiny_units.encoder("hubert", choice=LayerChoice(*choice))
        return encoder.features([wave])[0], encoder.dims

    joined, dims = features((1, 3))
    assert torch.equal(joined, torch.cat([one, three], 1)) and dims == (32,)
    each, dims = features((1, 3), "each")
    assert torch.equal(each, joined) and dims == (16, 16)
    weighed, dims = features((1, 3), "sum", (3.0, 1.0))
    assert torch.allclose(weighed, 0.75 * one + 0.25 * three) and dims == (16,)
    mean, _ = features((1, 3), "sum")
    assert torch.allclose(mean, (one + three) / 2)


def test_wrong_choices_of_layers():
    for wrong in ((), (1, 1), (-2,)):
        with pytest.raises(ValueError, match="layers"):
            LayerChoice(wrong)
    with pytest.raises(ValueError, match="weights"):
        LayerChoice((1, 2), "sum", (1.0,))
    with pytest.raises(CheckpointError, match="layer 9 of a model that has 3"):
        tiny_units.encoder("hubert", choice=LayerChoice((9,)))


def test_the_default_layer_is_the_middle_one():
    encoder = Pretrained.from_published(tiny_units.directory("hubert"))
    assert encoder.config.choice.layers == (1,) and encoder.window == 1500


def test_seams_of_windows_hardly_show(capsys):
    """The features of 9 s in windows of 4 s against those in one piece.

    Attention of random weights looks everywhere alike, so this is the worst case: what a window
    does not see matters most.
    """
    wave = speech(9 * 16000, seed=3)
    units = tiny_units.tokenizer_of(tiny_units.encoder("xls-r", window_s=20.0))
    cut = tiny_units.encoder("xls-r", window_s=4.0, overlap_s=1.0)
    whole, windows = units.encoder.features([wave])[0], cut.features([wave])[0]
    assert whole.shape == windows.shape
    change = (whole - windows).norm(dim=1) / (whole - whole.mean(0)).norm(dim=1)
    search = units._searches()[0]
    same = float((search(whole) == search(windows)).float().mean())
    print(
        f"seams: features change by {float(change.median()):.3f} (median), units alike {same:.3f}"
    )
    assert same > 0.8
    steps = (windows[1:] - windows[:-1]).norm(dim=1)
    seams = torch.tensor([174, 324])  # the frames where one window takes over from another
    assert float(steps[seams].max()) < float(steps.max())


def test_threads_do_not_disturb_each_other():
    encoder = tiny_units.encoder("hubert", choice=LayerChoice((1, 2)))
    waves = [speech(4000 + 500 * seed, seed) for seed in range(4)]
    expected = [encoder.features([wave])[0] for wave in waves]
    wrong = []

    def work(index):
        torch.set_num_threads(1)
        for _ in range(10):
            if not torch.equal(encoder.features([waves[index]])[0], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=[index]) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(tiny_units.directory("hubert"), tmp_path / "copy")
    return tmp_path / "copy"


def test_older_weights_without_safetensors(copy):
    from safetensors.torch import load_file

    state = load_file(copy / "model.safetensors")
    torch.save(state, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    wave = speech(4000)
    old = Pretrained.from_published(copy, LayerChoice((2,))).features([wave])[0]
    assert torch.equal(old, tiny_units.encoder("hubert").features([wave])[0])


def test_directories_that_can_not_be_read(copy, tmp_path):
    def refuse(pattern):
        with pytest.raises(CheckpointError, match=pattern):
            catalogue.find(str(copy), LayerChoice((2,)))

    preprocessor = (copy / "preprocessor_config.json").read_text()
    (copy / "preprocessor_config.json").unlink()
    refuse("how the model's input is normalised")
    (copy / "preprocessor_config.json").write_text(preprocessor)
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    first = next(name for name in weights if "layers.0" in name)
    fewer = {name: value for name, value in weights.items() if name != first}
    save_file(fewer, copy / "model.safetensors", {"format": "pt"})
    refuse("1 weights missing")
    (copy / "model.safetensors").write_bytes(b"nonsense")
    refuse("copy")
    fields = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**fields, "model_type": "bert"}))
    refuse("'bert'")
    with pytest.raises(UnknownTokenizerError, match="no encoder 'mffc'"):
        catalogue.find("mffc")
    with pytest.raises(CheckpointError, match="no layers"):
        catalogue.find("mfcc", LayerChoice((2,)))
    with pytest.raises(CheckpointError, match="no speech encoder"):
        catalogue.find("dmel")


def test_an_encoder_of_its_own_fields_is_the_same():
    encoder = tiny_units.encoder("hubert-large")
    again = catalogue.build(json.loads(json.dumps(encoder.fields())))
    again.load_state_dict(encoder.state_dict())
    wave = speech(5000)
    assert torch.equal(again.features([wave])[0], encoder.features([wave])[0])
    assert np.isclose(encoder.latency, 2.0 * 16000 + 1)
