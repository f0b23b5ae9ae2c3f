"""Parameters and multiply-accumulates of the paper's sizes of TS3-Codec, beside the published ones.

    python benchmarks/ts3_sizes.py [--run ts3-x2,ts3-1.6b]

Counted: every linear layer, and attention (scores of keys, scores of distances, the sum of values)
over the whole window, which is what each frame costs, streamed or not. Beside it what the search of
the codebook costs by brute force. Not counted: norms, softmax, activations.

The published 8 GMAC are of a counter that hooks layers; it sees no attention. 203.6 million
weights in layers, once for each of 40 frames a second, are 8.1 G, so that is what it counted.

`--run` makes untrained weights, encodes and decodes a second of noise, and streams it frame by
frame, with the codes of both compared.
"""

import argparse
import resource
import time

import torch

from syllabary.codecs.ts3.presets import PRESETS
from syllabary.codecs.ts3.tokenizer import TS3Codec
from timing import machine

PUBLISHED = {"ts3-x2": (203.6, None), "ts3-x4": (None, 8.0), "ts3-1.6b": (1600.0, 60.52)}


def count(name: str) -> str:
    config = PRESETS[name]
    with torch.device("meta"):
        codec = TS3Codec(config)
    rate = 16_000 / config.network.hop
    weights = sum(p.numel() for p in codec.parameters()) + codec.quantizer.codebook.numel()
    stacks = config.network.encoder, config.network.decoder
    attention = sum(3 * s.window * s.width * s.layers for s in stacks)
    layers = codec.encoder.macs_per_frame + codec.decoder.macs_per_frame - attention
    search = config.codebook.size * config.codebook.dim
    millions, giga = PUBLISHED.get(name, (None, None))
    return (
        f"| {name} | {rate:g} | {weights / 1e6:.1f} | {millions or ''} | {rate * layers / 1e9:.2f} "
        f"| {rate * attention / 1e9:.2f} | {rate * (layers + attention) / 1e9:.2f} "
        f"| {giga or ''} | {rate * search / 1e9:.2f} |"
    )


def run(name: str) -> str:
    torch.manual_seed(0)
    codec = TS3Codec(PRESETS[name], name).eval()
    wave = 0.1 * torch.randn(1, 16_000)
    codec.decode(codec.encode(wave[:, :1000], 16_000))  # compiles, and lays out the weights
    start = time.perf_counter()
    tokens = codec.encode(wave, 16_000)
    encoded = time.perf_counter()
    again = codec.decode(tokens)
    decoded = time.perf_counter()
    hop = codec.spec.tokens.hop
    with codec.stream() as session:
        codes = [session.encode(chunk).codes for chunk in wave.split(hop, 1)]
        codes.append(session.flush().tokens.codes)
    streamed = time.perf_counter()
    differing = int((torch.cat(codes, 2) != tokens.codes).sum())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert again.shape == wave.shape
    return (
        f"| {name} | {1 / (encoded - start):.2f} | {1 / (decoded - encoded):.2f} "
        f"| {1 / (streamed - decoded):.2f} | {differing} of {tokens.codes.numel()} | {memory:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="", help="presets to run, comma-separated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| preset | frames/s | M parameters | published | G layers | G attention | GMAC/s "
          "| published | G search |")  # fmt: skip
    print("| --- " * 9 + "|")
    for name in PRESETS:
        print(count(name))
    if options.run:
        print(f"\n{machine()}; one second, × real time\n")
        print("| preset | encode | decode | encode, streamed | differing codes | GiB at most |")
        print("| --- " * 6 + "|")
        for name in options.run.split(","):
            print(run(name), flush=True)


if __name__ == "__main__":
    main()
