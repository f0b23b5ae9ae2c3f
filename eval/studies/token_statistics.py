"""Token statistics: bitrates of tokens, and the distribution and dependence of codes."""

import math
from collections.abc import Sequence

import numpy as np

from ...codecs.tokens import Tokens
from ...errors import SyllabaryError
from ..metrics.interface import MetricError
from ..requirements import NotApplicableError
from ..unit_measures.held_out import HeldOutBits, held_out_bits
from ..unit_measures.rates import Usage, bitrate, usage
from .clips import frame_codes, needs_tokens
from .interface import Bench, Curve, Findings, Study, Value

#: Mean observations per code below which a codebook counts as undersampled.
ENOUGH = 10


def run(bench: Bench) -> Findings:
    """Compute the statistics of all items' tokens.

    Raises:
        MetricError: fewer than two items have tokens.
    """
    found, failed = _tokens(bench)
    if len(found) < 2:
        reason = next(iter(failed.values()), "there are too few items")
        kind = MetricError if failed else NotApplicableError
        raise kind(f"token statistics need tokens of two utterances: {reason}")
    sizes = found[0].spec.codebook_sizes[: found[0].num_codebooks]
    rows = [frame_codes(tokens) for tokens in found]
    frames = sum(codes.shape[1] for codes in rows)
    seconds = sum(tokens.duration() for tokens in found)
    if not frames:
        raise MetricError("token statistics: the utterances have no frames")
    used = [usage((codes[q] for codes in rows), size) for q, size in enumerate(sizes)]
    held_out = [held_out_bits([codes[q] for codes in rows], size) for q, size in enumerate(sizes)]
    findings = Findings()
    _rates(findings, found, frames, seconds)
    _entropies(findings, used, held_out, frames / seconds)
    _use(findings, used)
    _pieces(findings, found, seconds)
    findings.notes.insert(
        0,
        f"{len(found)} utterances, {seconds:.0f} s, {frames} frames of "
        f"{len(sizes)} codebook{'s' * (len(sizes) > 1)}.",
    )
    if failed:
        findings.notes.append(
            f"{len(failed)} utterances have no tokens and are left out: "
            + "; ".join(f"{name}: {reason}" for name, reason in list(failed.items())[:3])
        )
    return findings


def _tokens(bench: Bench) -> tuple[list[Tokens], dict[str, str]]:
    """Tokens of every item, in the order of their names; and reasons for missing ones."""
    found: list[Tokens] = []
    failed: dict[str, str] = {}
    for item in sorted(bench.items, key=lambda item: str(item.name)):
        try:
            found.append(bench.tokens(item))
        except SyllabaryError as error:
            failed[str(item.name)] = str(error)
    return found, failed


def _rates(findings: Findings, found: Sequence[Tokens], frames: int, seconds: float) -> None:
    codebooks, spec = found[0].num_codebooks, found[0].spec
    once = len(found) * sum(math.ceil(math.log2(size)) for size in spec.global_codebook_sizes)
    bits = sum(int(t.lengths[0]) for t in found) * spec.bits_per_frame(codebooks) + once
    runs = sum(int(tokens.deduplicate().lengths[0]) for tokens in found)
    add, count = findings.values.append, len(found)
    add(Value("bitrate", "bitrate", bits / seconds, False, "bit/s", 0, count=count))
    add(Value("frames", "frames", frames / seconds, None, "1/s", 2, count=count))
    add(Value("tokens", "tokens", frames * codebooks / seconds, False, "1/s", 1, count=count))
    add(
        Value(
            "tokens-deduplicated",
            "tokens, de-duplicated",
            runs * codebooks / seconds,
            False,
            "1/s",
            1,
            count=count,
        )
    )
    findings.notes.append(
        "Bitrate: ceil(log2 size) bits for each code that there is, over the seconds of audio; the "
        "last frame of an utterance may stand for less than its length, so it lies a little above "
        "the nominal one. De-duplicated: runs of frames that are equal in all codebooks count "
        "once; durations are not counted."
    )


def _entropies(
    findings: Findings, used: Sequence[Usage], held_out: Sequence[HeldOutBits], frame_rate: float
) -> None:
    observed = [codebook.entropy for codebook in used]
    alone = [codebook.alone for codebook in held_out]
    after = [codebook.after_last for codebook in held_out if codebook.after_last is not None]
    huffman = [codebook.huffman for codebook in used]
    count = used[0].num_symbols
    add = findings.values.append

    def put(name: str, heading: str, value: float, unit: str = "bit", digits: int = 2) -> None:
        add(Value(name, heading, value, None, unit, digits, count=count))

    put("entropy-observed", "entropy, observed", float(np.mean(observed)))
    put("entropy", "entropy, held out", float(np.mean(alone)))
    if after:
        put("entropy-conditional", "entropy after the last code, held out", float(np.mean(after)))
    else:
        findings.missing["entropy-conditional"] = "no utterance has two frames"
    put("entropy-rate", "entropy rate, held out", frame_rate * sum(alone), "bit/s", 0)
    if after:
        put(
            "conditional-rate",
            "entropy rate after the last code, held out",
            frame_rate * sum(after),
            "bit/s",
            0,
        )
    put("huffman-rate", "Huffman code", frame_rate * sum(huffman), "bit/s", 0)
    findings.notes.append(
        "Entropies are means over codebooks, in bits a code. Observed: of the frequencies, which "
        "is too low for a small sample. Held out: cross-entropy of a fifth of the utterances by "
        "Witten–Bell frequencies of the others, which is too high for a small sample; the truth "
        "lies between. Rates are sums over codebooks. The Huffman code is made for the very codes "
        "that it codes, its tables not counted."
    )
    if len(used) > 1:
        numbers = tuple(float(number) for number in range(1, len(used) + 1))
        curves = [
            ("entropy-observed", "entropy, observed", observed),
            ("entropy", "entropy, held out", alone),
        ]
        if len(after) == len(used):
            curves.append(("entropy-conditional", "after the last code, held out", after))
        for name, heading, values in curves:
            findings.curves.append(Curve(name, heading, "codebook", numbers, tuple(values), "bit"))


def _use(findings: Findings, used: Sequence[Usage]) -> None:
    share = float(np.mean([100 * codebook.used / codebook.vocabulary for codebook in used]))
    perplexity = float(np.mean([codebook.perplexity for codebook in used]))
    count = used[0].num_symbols
    findings.values.append(Value("use", "codes used", share, None, "%", 1, count=count))
    findings.values.append(
        Value("perplexity", "perplexity, observed", perplexity, None, "", 1, count=count)
    )
    scarce = [codebook for codebook in used if count < ENOUGH * codebook.vocabulary]
    if scarce:
        size = max(codebook.vocabulary for codebook in scarce)
        # Expected number of different codes in `count` uniform draws, without cancellation in (1 −
        # 1/n)^count.
        even = -100 * math.expm1(count * math.log1p(-1 / size))
        findings.notes.append(
            f"Undersampled: {count} frames for a codebook of {size}. Even draws would use "
            f"{even:.1f} % of it and show {_even_entropy(count, size):.2f} bits, so use, observed "
            "entropy, perplexity and the Huffman code are lower than of longer speech."
        )


def _even_entropy(count: int, size: int) -> float:
    """Approximate expected entropy in bits of observed frequencies in `count` uniform draws of
    `size` codes.

    The mean over Poisson counts of mean count / size, which the multinomial ones are close to.
    """
    mean = count / size
    most = math.ceil(mean + 12 * math.sqrt(mean) + 12)
    total, chance = 0.0, math.exp(-mean)
    for number in range(1, most):
        chance *= mean / number
        total += chance * number * math.log2(count / number)
    return size * total / count


def _pieces(findings: Findings, found: Sequence[Tokens], seconds: float) -> None:
    """Rates with a bundled byte-pair encoding, if there is one for these tokens."""
    from ...semantic.token_bpe import PieceCoder, list_bpes, load_bpe

    first, fitting = found[0], []
    for name in list_bpes():
        bpe = load_bpe(name)
        sizes = first.spec.codebook_sizes[: first.num_codebooks]
        if bpe.source == first.spec.digest and bpe.codebook_sizes == sizes:
            fitting.append(bpe)
    if not fitting:
        reason = "no bundled byte-pair encoding was trained on these tokens"
        findings.missing |= {"pieces": reason, "pieces-bitrate": reason}
        return
    best = max(fitting, key=lambda bpe: bpe.vocab_size)
    coder = PieceCoder(best, first.spec)
    pieces = sum(int(coder.encode(tokens).lengths[0]) for tokens in found)
    cost = bitrate([pieces], [best.vocab_size], seconds)
    findings.values += [
        Value("pieces", "pieces", pieces / seconds, False, "1/s", 2, count=len(found)),
        Value("pieces-bitrate", "pieces", cost, False, "bit/s", 0, count=len(found)),
    ]
    findings.notes.append(
        f"Pieces: {best.name}, {best.vocab_size} pieces of log2 {best.vocab_size} bits"
        f"{', without durations' if coder.deduplicate else ''}."
    )


STUDY = Study(
    name="tokens",
    heading="Token statistics",
    run=run,
    description=(
        "Bits and tokens a second, counted; entropy of codes, alone and given the last one; how "
        "much of each codebook is used."
    ),
    unsuitable=needs_tokens,
)
