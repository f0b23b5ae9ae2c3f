"""Specs of tokens and tokenizers, as plain data without torch.

`TokenSpec` is part of every batch of tokens and every `.syl` file. `TokenizerSpec` has what a user
needs to know when choosing a tokenizer.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from typing import Any, Protocol

from ..errors import TokenError

MAX_CODEBOOKS = 4096
MAX_CODEBOOK_SIZE = 2**31


def bits_for(size: int) -> int:
    """Bits that a code from a codebook of `size` takes in a file: ceil(log2(size))."""
    return (size - 1).bit_length()


@lru_cache(maxsize=256)
def _hop(sample_rate: int, numerator: int, denominator: int) -> int:
    """Samples per frame; kept, since streams ask for every frame, and fractions are slow."""
    return sample_rate * denominator // numerator


def _runs(sizes: tuple[int, ...]) -> list[list[int]]:
    return [[size, len(list(run))] for size, run in groupby(sizes)]


def _expand(runs: Any) -> tuple[int, ...]:
    sizes: list[int] = []
    for size, count in runs:
        if type(count) is not int or not 1 <= count <= MAX_CODEBOOKS - len(sizes):
            raise TokenError(f"a run of {count!r} codebooks; at most {MAX_CODEBOOKS} in all")
        sizes += [size] * count
    return tuple(sizes)


@dataclass(frozen=True, repr=False)
class TokenSpec:
    """The meaning of a batch of tokens.

    Attributes:
        tokenizer: name of the tokenizer that made the tokens.
        digest: SHA-256 (hex) of everything that determines what the codes mean, weights included.
        sample_rate: of the waveform, in Hz.
        frame_rate: frames per second, exact. ``sample_rate / frame_rate`` is a whole number, the
            hop in samples.
        codebook_sizes: number of codes in each codebook; empty for a continuous model, which has
            latents and no codes.
        global_codebook_sizes: the same for codes that apply to the whole utterance.
    """

    tokenizer: str
    digest: str
    sample_rate: int
    frame_rate: Fraction
    codebook_sizes: tuple[int, ...]
    global_codebook_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.tokenizer, str) or not isinstance(self.digest, str):
            raise TokenError("a TokenSpec's tokenizer and digest are text")
        if not isinstance(self.sample_rate, int) or not 0 < self.sample_rate < 2**31:
            raise TokenError(f"sample_rate must be a positive whole number, got {self.sample_rate}")
        if not isinstance(self.frame_rate, Fraction) or self.frame_rate <= 0:
            raise TokenError(f"frame_rate must be a positive Fraction, got {self.frame_rate!r}")
        if (self.sample_rate / self.frame_rate).denominator != 1:
            raise TokenError(
                f"a frame must be a whole number of samples: sample_rate {self.sample_rate} / "
                f"frame_rate {self.frame_rate} is not whole"
            )
        for sizes in (self.codebook_sizes, self.global_codebook_sizes):
            if len(sizes) > MAX_CODEBOOKS:
                raise TokenError(f"{len(sizes)} codebooks; expected at most {MAX_CODEBOOKS}")
            for size in sizes:
                if type(size) is not int or not 2 <= size <= MAX_CODEBOOK_SIZE:
                    raise TokenError(f"codebook size {size!r}; expected 2 to {MAX_CODEBOOK_SIZE}")

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return _hop(self.sample_rate, self.frame_rate.numerator, self.frame_rate.denominator)

    @property
    def num_codebooks(self) -> int:
        return len(self.codebook_sizes)

    def frames_for(self, num_samples: int) -> int:
        """Number of frames, by the same law for every tokenizer: ``ceil(num_samples / hop)``."""
        return -(-num_samples // self.hop)

    def bits_per_frame(self, num_codebooks: int | None = None) -> int:
        """Bits per frame in a file, with the first `num_codebooks` codebooks (default: all)."""
        return sum(map(bits_for, self.codebook_sizes[:num_codebooks]))

    def bitrate(self, num_codebooks: int | None = None) -> float:
        """Nominal bits per second: frame rate × sum of ceil(log2(codebook size))."""
        return float(self.frame_rate * self.bits_per_frame(num_codebooks))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{count} × {size}" for size, count in _runs(self.codebook_sizes))
        sizes = sizes or "none"
        return (
            f"TokenSpec({self.tokenizer!r}, {self.digest[:12]}, {self.sample_rate} Hz, "
            f"{self.frame_rate} frames/s, codebooks {sizes})"
        )

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON values; a run of equal codebook sizes becomes [size, count]."""
        fields = dict(vars(self))
        fields["frame_rate"] = [self.frame_rate.numerator, self.frame_rate.denominator]
        for name in ("codebook_sizes", "global_codebook_sizes"):
            fields[name] = _runs(fields[name])
        return fields

    @classmethod
    def from_json(cls, fields: object) -> "TokenSpec":
        """Create a spec from the output of `to_json`.

        Raises:
            TokenError: a field is missing, unknown or of the wrong type.
        """
        if not isinstance(fields, dict):
            raise TokenError("a token spec must be a JSON object")
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise TokenError(f"token spec: unknown field {', '.join(sorted(unknown))}")
        try:
            numerator, denominator = fields["frame_rate"]
            for whole in (numerator, denominator):
                if type(whole) is not int or not 0 < whole < 2**31:
                    raise TokenError(f"frame_rate must be two positive whole numbers, got {whole}")
            known = {name: fields[name] for name in ("tokenizer", "digest", "sample_rate")}
            return cls(
                **known,
                frame_rate=Fraction(numerator, denominator),
                codebook_sizes=_expand(fields["codebook_sizes"]),
                global_codebook_sizes=_expand(fields["global_codebook_sizes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, TokenError):
                raise
            raise TokenError(f"token spec: bad or missing field ({error})") from None


#: Promises of the interface that a tokenizer may declare not to keep.
PROMISES = (
    "length-law",
    "batch-invariance",
    "streaming-equality",
    "constant-memory",
    "determinism",
    "processors",
    "processors-samples",
    "round-trips",
    "identity",
    "bad-input",
    "migration",
)


class HasSpec(Protocol):
    """A tokenizer, as far as its spec."""

    @property
    def spec(self) -> "TokenizerSpec":
        """See `AudioTokenizer.spec`."""


@dataclass(frozen=True)
class TokenizerSpec:
    """Properties of a tokenizer that a user compares before choosing one.

    Attributes:
        tokens: the spec of its tokens, with sample rate, frame rate, codebooks and bitrate.
        family: ``dmel``, ``rvq``, …
        causal: whether a frame's code depends on no sample after that frame.
        encoder_latency: samples from the first sample of a frame to the last sample that its code
            depends on (the hop, for a causal encoder); None if that is the whole utterance.
        decoder_latency: samples that the streamed output lags behind the codes; None likewise.
        min_codebooks: the smallest valid `encode(num_codebooks=…)`.
        parameters: number of learned values.
        macs_per_second: multiply-accumulates per second of audio, encoder and decoder together;
            None if not counted.
        license: of the weights.
        source: paper or URL.
        description: one line.
        broken_promises: those of `PROMISES` that the tokenizer can't keep, each with the reason.
            The contract suite skips these rows and the leaderboard prints them.
        latent_channels: channels of its latents (`AudioTokenizer.latents` and `embed`); None if it
            has none.
        decodes_latents: whether `decode` takes `Latents`.
    """

    tokens: TokenSpec
    family: str
    causal: bool
    encoder_latency: int | None
    decoder_latency: int | None
    min_codebooks: int
    parameters: int
    macs_per_second: int | None
    license: str
    source: str
    description: str
    broken_promises: dict[str, str] = field(default_factory=dict)
    latent_channels: int | None = None
    decodes_latents: bool = False

    def __post_init__(self) -> None:
        unknown = set(self.broken_promises) - set(PROMISES)
        if unknown:
            raise ValueError(f"unknown promises {sorted(unknown)}; there are {PROMISES}")

    @property
    def sample_rate(self) -> int:
        return self.tokens.sample_rate

    @property
    def frame_rate(self) -> Fraction:
        return self.tokens.frame_rate

    @property
    def bitrate(self) -> float:
        """Nominal bits per second, with all codebooks."""
        return self.tokens.bitrate()

    @property
    def latency_ms(self) -> float | None:
        """Algorithmic latency of streamed encoding + decoding, in ms; None if unbounded."""
        if self.encoder_latency is None or self.decoder_latency is None:
            return None
        return 1000 * (self.encoder_latency + self.decoder_latency) / self.sample_rate

    def to_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["tokens"] = self.tokens.to_json()
        return fields | {"bitrate": self.bitrate, "latency_ms": self.latency_ms}
