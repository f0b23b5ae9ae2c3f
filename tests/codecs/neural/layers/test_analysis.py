"""What an encoder hears shows the pitch, the level and the spectrum, each where it should."""

import numpy as np
import pytest
import torch

from syllabary.codecs.neural.layers.analysis import AnalysisConfig, SpeechAnalysis

CONFIG = AnalysisConfig()


@pytest.fixture(scope="module")
def analysis():
    return SpeechAnalysis(CONFIG).double()


def vowel(pitch, samples=CONFIG.window):
    """Harmonics under the formants of an [a], -12 dB an octave: (samples,) float64."""
    time = np.arange(samples) / CONFIG.sample_rate
    harmonics = np.arange(1, int(7000 / pitch)) * pitch
    gains = sum(1 / (1 + ((harmonics - f) / 90) ** 2) for f in (730, 1090, 2440)) + 0.02
    wave = (gains[:, None] * np.cos(2 * np.pi * harmonics[:, None] * time + 0.3)).sum(0)
    return torch.from_numpy(0.1 * wave / np.abs(wave).max())


def parts(features):
    """The autocorrelation, the two mel spectra, the four band energies."""
    mels = features[..., CONFIG.num_lags : CONFIG.pitch_features]
    bands = features[..., CONFIG.pitch_features :]
    return (
        features[..., : CONFIG.num_lags],
        mels.unflatten(-1, (2, -1)),
        bands.unflatten(-1, (4, -1)),
    )


@pytest.mark.parametrize("pitch", [75, 90, 120, 160, 210, 280, 350])
def test_the_autocorrelation_peaks_at_the_pitch(analysis, pitch):
    correlation, _, _ = parts(analysis(vowel(pitch)))
    frequencies = np.geomspace(CONFIG.pitch_max, CONFIG.pitch_min, CONFIG.num_lags)
    # Lags even in log are 2.2 % apart; the shortest are within the peak at lag 0.
    inside = frequencies < 400
    found = frequencies[inside][int(correlation[inside].argmax())]
    assert abs(np.log2(found / pitch)) < 0.05


def test_loudness_moves_the_spectra_and_leaves_the_autocorrelation(analysis):
    torch.manual_seed(0)
    wave = vowel(120)
    wave = wave + 0.01 * torch.randn_like(wave)  # well above the floor everywhere
    quiet, loud = analysis(wave), analysis(10 * wave)
    for index, (one, other) in enumerate(zip(parts(quiet), parts(loud), strict=True)):
        expected = one if index == 0 else one + 0.7
        assert torch.allclose(other, expected, atol=5e-3)


def test_an_onset_shows_in_the_quarter_where_it_is(analysis):
    quarter = CONFIG.hop // 4
    for place in range(4):
        wave = torch.zeros(CONFIG.window, dtype=torch.float64)
        # The middle of the band window that ends `3 - place` quarters before the frame does.
        wave[-(3 - place) * quarter - CONFIG.band_window // 2] = 0.5
        _, _, bands = parts(analysis(wave))
        assert int(bands.mean(-1).argmax()) == place


def test_a_tone_shows_in_its_mel_channel(analysis):
    time = torch.arange(CONFIG.window, dtype=torch.float64) / CONFIG.sample_rate
    channels = [
        parts(analysis((2 * torch.pi * hertz * time).sin()))[1][1].argmax().item()
        for hertz in (300, 1000, 3000, 6000)
    ]
    assert channels == sorted(set(channels))
    assert channels[0] < 15 and channels[-1] > 60


def test_windows_are_taken_one_by_one(analysis):
    windows = torch.randn(2, 5, CONFIG.window, dtype=torch.float64)
    together = analysis(windows)
    assert together.shape == (2, 5, CONFIG.num_features)
    assert torch.allclose(together[1, 3], analysis(windows[1, 3]), rtol=1e-9, atol=1e-12)
    single = SpeechAnalysis(CONFIG)(windows.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), together, atol=1e-4)


def test_silence_is_finite(analysis):
    features = analysis(torch.zeros(CONFIG.window, dtype=torch.float64))
    assert bool(features.isfinite().all())


def test_a_window_holds_all_that_is_asked_of_it():
    for hop in (160, 320, 640):
        config = AnalysisConfig(hop=hop)
        assert SpeechAnalysis(config)(torch.randn(3, config.window)).shape[1] == config.num_features
    assert AnalysisConfig(hop=640).window == 1024


def test_no_weight_is_saved(analysis):
    assert not analysis.state_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"hop": 322}, "multiple of 4"), ({"pitch_min": 30.0}, "longer pitch_window than 1024")],
)
def test_bad_settings(fields, message):
    with pytest.raises(ValueError, match=message):
        AnalysisConfig(**fields)
