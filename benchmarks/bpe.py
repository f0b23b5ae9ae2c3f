"""Byte-pair encoding beside sentencepiece and Hugging Face tokenizers, in one process.

    python benchmarks/bpe.py                       # 10 million units, 2,000 symbols, 6,000 pieces
    python benchmarks/bpe.py --units 1000000 --kind unigram
    python benchmarks/bpe.py --syl FOLDER          # units of .syl files, de-duplicated

Training: ours from arrays, sentencepiece from ready strings with the same options, turn by turn;
seconds of wall clock and of processor, and whether the pieces are the same. Encoding: one thread
each, in one batch; equal ids are checked on all of it. The likeness of units is a random walk in
which every unit has a few likely followers (`--seed`). On a machine with other work, the seconds
of the processor say more than those of the clock.
"""

import argparse
import io
import os
import statistics
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import sentencepiece
import tokenizers

from syllabary.bpe import UnitBPE
from syllabary.bpe.alphabet import text_of
from syllabary.bpe.huggingface_file import write_tokenizer
from syllabary.bpe.sentencepiece_file import raw_pieces, write_model
from timing import machine


def likeness(count: int, symbols: int, seed: int, length: int = 500) -> list[np.ndarray]:
    """Sequences of units, none twice in a row; many walks side by side, for speed."""
    rng = np.random.default_rng(seed)
    followers = rng.integers(0, symbols, (symbols, 8))
    walks = -(-count // length)
    units = np.empty((length, walks), np.int32)
    now = rng.integers(0, symbols, walks)
    for at in range(length):
        likely = followers[now, np.minimum(rng.geometric(0.4, walks) - 1, 7)]
        following = np.where(rng.random(walks) < 0.85, likely, rng.integers(0, symbols, walks))
        now = np.where(following == now, (now + 1) % symbols, following)
        units[at] = now
    return list(np.ascontiguousarray(units.T))


def units_of_files(folder: str) -> tuple[list[np.ndarray], int]:
    """Of all .syl files: units without repetitions, all codebooks flattened, and how many."""
    from pathlib import Path

    from syllabary.codecs.container import read_tokens

    sequences, sizes = [], ()
    for path in sorted(Path(folder).rglob("*.syl")):
        tokens = read_tokens(path).deduplicate()
        sizes = tokens.spec.codebook_sizes[: tokens.num_codebooks]
        shifts = np.cumsum([0, *sizes[:-1]])[:, None]
        sequences.append((tokens.codes[0].numpy() + shifts).T.reshape(-1))
    return sequences, sum(sizes)


def train_sentencepiece(texts: list[str], symbols: int, pieces: int, kind: str) -> bytes:
    """What a user of sentencepiece would write for units."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=out,
        model_type=kind,
        vocab_size=pieces + 1,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_whitespace=False,
        split_by_unicode_script=False,
        split_by_number=False,
        character_coverage=1.0,
        max_sentence_length=1 << 17,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return out.getvalue()


def timed(run):
    """(result, seconds of clock, seconds of processor)"""
    clock, processor = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=10_000_000)
    parser.add_argument("--symbols", type=int, default=2000)
    parser.add_argument("--pieces", type=int, default=6000)
    parser.add_argument("--kind", choices=["bpe", "unigram"], default="bpe")
    parser.add_argument("--syl", help="folder of .syl files, in place of the likeness")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1, help="of training")
    parser.add_argument("--encode", type=int, default=2_000_000, help="units to encode in a round")
    args = parser.parse_args()

    if args.syl:
        sequences, symbols = units_of_files(args.syl)
    else:
        sequences, symbols = likeness(args.units, args.symbols, args.seed), args.symbols
    texts = [text_of(units) for units in sequences]
    total = sum(map(len, sequences))
    print(machine())
    print(f"{total:,} units of {symbols} kinds in {len(sequences):,} sequences, {args.kind}")

    times = {"ours": [], "sentencepiece": []}
    for _ in range(args.rounds):
        model, *seconds = timed(lambda: train_sentencepiece(texts, symbols, args.pieces, args.kind))
        times["sentencepiece"].append(seconds)
        bpe, *seconds = timed(
            lambda: UnitBPE.train(sequences, symbols, args.pieces, kind=args.kind)
        )
        times["ours"].append(seconds)
    medians = {
        name: [statistics.median(t) for t in zip(*v, strict=True)] for name, v in times.items()
    }
    for name, (clock, processor) in medians.items():
        print(f"train {name:>14}: {clock:7.2f} s of clock, {processor:7.2f} s of processor")
    ratios = [a / b for a, b in zip(medians["ours"], medians["sentencepiece"], strict=True)]
    print(f"ours / sentencepiece: {ratios[0]:.2f} by the clock, {ratios[1]:.2f} by the processor")
    theirs = {p.text for p in raw_pieces(model)[1] if p.type == 1 and len(p.text) > 1}
    mine = {text_of(piece) for piece in bpe.vocabulary.pieces() if len(piece) > 1}
    print(f"pieces in both: {len(mine & theirs)} of {len(mine)}")

    keep = max(1, int(np.searchsorted(np.cumsum(list(map(len, sequences))), args.encode)))
    sequences, texts = sequences[:keep], texts[:keep]
    total = sum(map(len, sequences))
    processor = sentencepiece.SentencePieceProcessor(model_proto=write_model(bpe.vocabulary))
    tokenizer = tokenizers.Tokenizer.from_str(write_tokenizer(bpe.vocabulary))
    bpe.encode_batch(sequences[:1])  # compiled, or read from numba's cache
    contenders = {
        "ours": lambda: bpe.encode_batch(sequences),
        "sentencepiece": lambda: processor.encode(texts, num_threads=1),
        "hf tokenizers": lambda: [found.ids for found in tokenizer.encode_batch(texts)],
    }
    ids, speeds = {}, {name: [] for name in contenders}
    for _ in range(5):
        for name, run in contenders.items():
            ids[name], *seconds = timed(run)
            speeds[name].append([total / value / 1e6 for value in seconds])
    for name, values in speeds.items():
        clock, processor_speed = (statistics.median(v) for v in zip(*values, strict=True))
        print(
            f"encode {name:>13}: {clock:6.2f} million units/s by the clock, "
            f"{processor_speed:6.2f} by the processor"
        )
    equal = all(
        list(a) == b == c
        for a, b, c in zip(ids["ours"], ids["sentencepiece"], ids["hf tokenizers"], strict=True)
    )
    count = sum(map(len, ids["ours"]))
    print(
        f"ids equal: {equal}; {total / count:.2f} units a piece, longest {bpe.vocabulary.longest}"
    )

    units = np.concatenate(sequences)[:20_000]
    stream, waiting = bpe.stream(), []
    start = time.process_time()
    for at in range(len(units)):
        stream.push(units[at : at + 1])
        waiting.append(stream.waiting)
    each = (time.process_time() - start) / len(units)
    print(
        f"stream: {each * 1e6:.0f} µs a unit; {np.mean(waiting):.2f} units wait on average, "
        f"{max(waiting)} at most"
    )


if __name__ == "__main__":
    main()
