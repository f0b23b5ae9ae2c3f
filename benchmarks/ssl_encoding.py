"""Units of a HuBERT-base-shaped model: ours against the plain transformers loop, on speech.

Usage:
    OMP_NUM_THREADS=1 python benchmarks/ssl_encoding.py [--files 8] [--batch 4] [--threads 1]

The plain loop is what recipes do: batches of files in their order, padded to the longest, all
hidden states, one layer of them, and `torch.cdist` to the centroids. `first layers only` is the
same loop with a model that was cut behind that layer, which few recipes do. Ours takes utterances
one by one, through the same layers, and the exact search. Weights are random: speed does not
depend on them.
"""

import argparse

import soundfile
import torch

from syllabary.semantic.encoders.layers import LayerChoice
from syllabary.semantic.encoders.pretrained import Pretrained, PretrainedConfig
from syllabary.semantic.units.tokenizer import UnitTokenizer
from timing import interleaved, machine, speech_manifest

LAYER, UNITS = 6, 500


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    import transformers

    # Batches of neighbours, as loops over a manifest have them, spread over the split.
    files = speech_manifest("test")
    count = max(1, options.files // options.batch)
    starts = [number * (len(files) - options.batch) // count for number in range(count)]
    chosen = [path for start in starts for path in files[start : start + options.batch]]
    waves = [soundfile.read(path, dtype="float32")[0] for path in chosen]
    seconds = sum(len(wave) for wave in waves) / 16000
    fields = {"model_type": "hubert", "num_hidden_layers": LAYER, "add_adapter": False}
    preprocessor = {"do_normalize": True, "sampling_rate": 16000}
    encoder = Pretrained(PretrainedConfig(fields, preprocessor, LayerChoice((LAYER,)))).eval()
    torch.manual_seed(0)
    centroids = torch.randn(UNITS, 768)
    units = UnitTokenizer.of(encoder, centroids)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False)
    whole = transformers.HubertModel(transformers.HubertConfig()).eval()
    cut = transformers.HubertModel(transformers.HubertConfig(num_hidden_layers=LAYER)).eval()
    batches = [waves[at : at + options.batch] for at in range(0, len(waves), options.batch)]

    @torch.no_grad()
    def plain(model: torch.nn.Module) -> None:
        for batch in batches:
            inputs = extractor(batch, sampling_rate=16000, return_tensors="pt", padding=True)
            states = model(**inputs, output_hidden_states=True).hidden_states[LAYER]
            torch.cdist(states.flatten(0, 1), centroids).argmin(1)

    def ours() -> None:
        for batch in batches:
            lengths = [len(wave) for wave in batch]
            padded = torch.zeros(len(batch), max(lengths))
            for row, wave in enumerate(batch):
                padded[row, : len(wave)] = torch.from_numpy(wave)
            units.encode(padded, 16000, lengths)

    times = interleaved(
        {
            "plain loop": lambda: plain(whole),
            "plain loop, first layers only": lambda: plain(cut),
            "ours": ours,
        },
        options.rounds,
    )
    print(machine())
    print(
        f"{len(waves)} files of {min(map(len, waves)) / 16000:.1f} to "
        f"{max(map(len, waves)) / 16000:.1f} s, batches of {options.batch}, layer {LAYER}"
    )
    for name, time in times.items():
        print(f"{name:32} {seconds / time:6.2f} × real time, {time / times['ours']:.2f} × ours")


if __name__ == "__main__":
    main()
