"""`AudioTokenizer`: the interface that every tokenizer family implements, our own and wrapped ones.

A family supplies two stateful streams, an `EncoderStream` and a `DecoderStream`. This module builds
all public methods from them: offline `encode` and `decode` run the same streams as a streaming
session, so streaming equals offline by construction.
"""

import copy
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from torch import Tensor

from ..audio import resampling
from ..errors import LatentsError, WaveError, WeightsError
from ..plain_torch import made_plainly, plain_torch, plainly
from . import checkpoint
from .batches import (
    check_codebooks,
    code_rows,
    latent_rows,
    latents_of_rows,
    tokens_of_rows,
)
from .copies import reduced
from .identity import AsMade, Identity
from .latents import Latents, latent_channels
from .spec import TokenizerSpec, TokenSpec
from .streaming import DecoderStream, EncoderStream, StreamSession
from .tokenizer_module import TokenizerModule
from .tokens import Tokens
from .waves import Wave, rows_of

#: The suffix that `_name_for` adds to a name.
_CHANGED = re.compile(r"@[0-9a-f]{8}$")


class AudioTokenizer(TokenizerModule):
    """Encode speech to tokens and decode tokens to speech: the base class of all tokenizers.

    The spec and the digest follow the weights: when the weights change in any way, so do both, and
    tokens from before the change are refused. The module is created in float32 and stays in
    float32 (`PlainModule`). Pickling and copying keep only the weights and the configuration.

    A subclass sets `family` and `Config` (a frozen dataclass whose fields are JSON values) and
    implements `describe`, `start_encoder` and `start_decoder`; and for latents, the streams'
    `push_latents`, `codebook_vectors`, and the fields `latent_channels` and `decodes_latents` of
    the spec.

    Args:
        config: an instance of `Config`.
        name: the tokenizer's name, part of every token spec.
    """

    def __init__(self, config: Any, name: str | None = None) -> None:
        super().__init__(config, name)
        self._known: Identity | None = None
        self._as_made: AsMade

    # --- to be implemented by a family (and `describe`) ----------------------------------------

    @abstractmethod
    def start_encoder(self, batch_size: int, num_codebooks: int) -> EncoderStream:
        """Create an encoder stream of `batch_size` rows that keeps the first `num_codebooks`."""

    @abstractmethod
    def start_decoder(self, batch_size: int) -> DecoderStream:
        """Create a decoder stream of `batch_size` rows."""

    def codebook_vectors(self, codes: Tensor, differentiable: bool) -> list[Tensor]:
        """Return the vectors of the codes of one utterance, for each codebook.

        Args:
            codes: (frames, codebooks) int64 in range, of the first so many codebooks.
            differentiable: whether gradients must reach the weights.

        Returns:
            (frames, channels) float32 for each codebook. They add up to `embed_codes`.
        """
        raise LatentsError(f"{self.name} has no latents: its codes stand for no vectors")

    def embed_codes(self, codes: Tensor, differentiable: bool) -> Tensor:
        """Return the latents (frames, channels) float32 of codes; see `codebook_vectors`.

        Without gradients, they are those that the decoder computes from the codes, to the bit.
        """
        return reduce(torch.add, self.codebook_vectors(codes, differentiable))

    def token_config(self) -> dict[str, Any]:
        """Return the configuration fields that determine what the codes mean, as JSON values."""
        return checkpoint.config_to_json(self.config)

    def token_spec(
        self,
        hop: int,
        codebook_sizes: Sequence[int],
        sample_rate: int,
        global_codebook_sizes: Sequence[int] = (),
    ) -> TokenSpec:
        """Create this tokenizer's `TokenSpec`, with the digest of its configuration and weights."""
        digest = checkpoint.digest(self.family, self.token_config(), self.token_tensors())
        return TokenSpec(
            tokenizer=self._name_for(digest),
            digest=digest,
            sample_rate=sample_rate,
            frame_rate=Fraction(sample_rate, hop),
            codebook_sizes=tuple(codebook_sizes),
            global_codebook_sizes=tuple(global_codebook_sizes),
        )

    def extra_repr(self) -> str:
        try:
            tokens = self.spec.tokens
        except WeightsError as error:
            return f"{self.name}: {error}"
        return (
            f"{tokens.tokenizer}: {tokens.sample_rate} Hz, {float(tokens.frame_rate):g} frames/s, "
            f"{tokens.num_codebooks} codebooks, {tokens.bitrate():g} bit/s"
        )

    # --- public methods ------------------------------------------------------------------------

    @property
    def spec(self) -> TokenizerSpec:
        """The tokenizer's spec with its current weights.

        Raises:
            WeightsError: the tokenizer can't run with its weights: some were cast to another dtype,
                or have no values (meta tensors).
        """
        return self.identity().spec

    @property
    def full_digest(self) -> str:
        """SHA-256 (hex) of the family, the whole configuration and all weights, decoder included.

        `spec.tokens.digest` covers only what determines the codes.
        """
        return self.identity().full_digest(self)

    @plainly
    def encode(
        self,
        wave: Wave,
        sample_rate: int,
        lengths: Tensor | Sequence[int] | None = None,
        num_codebooks: int | None = None,
        resample: bool = False,
    ) -> Tokens:
        """Turn speech into tokens.

        Args:
            wave: (batch, samples), (batch, 1, samples) or (samples,), or a list of (samples,) of
                different lengths; tensors or NumPy arrays. float32 or float64, nominally in
                [-1, 1], or int16, whose samples count 1 / 32768.
            sample_rate: of `wave`, in Hz; the tokenizer's own, or any with `resample`.
            lengths: (batch,) valid samples of each row; default: all. What lies beyond a row's
                length, and the other rows, never change its codes.
            num_codebooks: keep the first so many codebooks (nested codes only); default: all.
            resample: convert another sample rate, as `syllabary.audio.resample` does, instead of
                refusing it. The tokens' metadata name the resampler.

        Returns:
            `Tokens` with codes (batch, codebooks, frames) int64 on the tokenizer's device, where
            a row of n samples at the tokenizer's rate has ceil(n / hop) frames.

        Raises:
            WaveError: wrong sample rate, dtype, shape or length; NaN or infinity.
            TokenError: `num_codebooks` out of range.

        Warns:
            LevelWarning: samples lie far beyond [-1, 1].
        """
        spec = self.spec
        given = rows_of(wave, sample_rate, lengths, spec, self.device, resample)
        rows, kept = given.samples, check_codebooks(num_codebooks, spec)
        with torch.autocast(self.device.type, enabled=False):
            codes = self.start_encoder(len(rows), kept).push(rows, final=True)
        counts = [row.shape[0] for row in rows]
        tokens = tokens_of_rows(codes, counts, kept, spec, self.device)
        return tokens if given.metadata is None else replace(tokens, metadata=given.metadata)

    @plainly
    def latents(
        self,
        wave: Wave,
        sample_rate: int,
        lengths: Tensor | Sequence[int] | None = None,
        resample: bool = False,
    ) -> Latents:
        """Turn speech into latents: the vectors of frames as the codes' would be without rounding.

        They have passed through everything of the quantizer (projections, bounds) but the rounding
        to codes, so `embed` gives vectors in the same space, and `decode` takes both.

        Args:
            wave, sample_rate, lengths, resample: as for `encode`.

        Returns:
            `Latents` with vectors (batch, frames, channels) float32, where frame n is the one that
            `encode` gives the codes of. Without a gradient. Batch, padding and chunks never change
            a bit of them.

        Raises:
            WaveError: as for `encode`.
            LatentsError: the tokenizer has no latents.
        """
        spec = self.spec
        latent_channels(spec)
        rows = rows_of(wave, sample_rate, lengths, spec, self.device, resample).samples
        with torch.autocast(self.device.type, enabled=False):
            encoder = self.start_encoder(len(rows), spec.tokens.num_codebooks)
            vectors = encoder.push_latents(rows, final=True)
        return latents_of_rows(vectors, [row.shape[0] for row in rows], spec, self.device)

    @overload
    def embed(
        self, tokens: Tokens, per_codebook: Literal[False] = False, differentiable: bool = False
    ) -> Latents: ...

    @overload
    def embed(
        self, tokens: Tokens, per_codebook: Literal[True], differentiable: bool = False
    ) -> list[Latents]: ...

    def embed(
        self, tokens: Tokens, per_codebook: bool = False, differentiable: bool = False
    ) -> Latents | list[Latents]:
        """Turn tokens into latents: the vector that the codes of each frame stand for.

        Args:
            tokens: from this tokenizer; tokens with durations are expanded to frames first.
            per_codebook: return the part of each codebook instead of their sum.
            differentiable: let gradients reach the weights behind the vectors (projections, and
                codebooks that are parameters). Vectors may then differ in their last bits.

        Returns:
            `Latents` with vectors (batch, frames, channels) as of `latents`; with `per_codebook` a
            list of one for each codebook of `tokens`. `decode` gives the same samples for them as
            for the tokens, where it takes latents.

        Raises:
            TokenMismatchError, TokenError: as for `decode`.
            LatentsError: the tokenizer has no latents.
        """
        with torch.inference_mode(False), torch.set_grad_enabled(differentiable), plain_torch():
            spec = self.spec
            latent_channels(spec)
            rows = [codes.T for codes in code_rows(tokens, spec, self.device)]
            counts = tokens.num_samples.tolist()
            if not per_codebook:
                vectors = [self.embed_codes(row, differentiable) for row in rows]
                return latents_of_rows(vectors, counts, spec, self.device)
            parts = [self.codebook_vectors(row, differentiable) for row in rows]
            return [
                latents_of_rows([part[index] for part in parts], counts, spec, self.device)
                for index in range(tokens.num_codebooks)
            ]

    @plainly
    def decode(
        self,
        tokens: Tokens | Latents,
        sample_rate: int | None = None,
        lost: Tensor | np.ndarray | None = None,
    ) -> Tensor:
        """Turn tokens, or latents, into speech.

        Args:
            tokens: from this tokenizer; tokens with durations are expanded to frames first.
                `Latents`, if the spec says `decodes_latents`.
            sample_rate: of the result, in Hz; another one than the tokenizer's is converted to, as
                `syllabary.audio.resample` does. Default: the tokenizer's.
            lost: (batch, frames) bool: frames that never arrived; see `StreamSession.decode`.

        Returns:
            (batch, max(num_samples)) float32: row i holds exactly ``tokens.num_samples[i]``
            samples, then zeros. At another rate, in the same proportion more or fewer.

        Raises:
            TokenMismatchError: the tokens or latents were made by another tokenizer.
            TokenError: a code, length or count is out of range.
            LatentsError: the same of latents; or the tokenizer can't decode latents.
            WaveError: a rate that can't be converted to.
        """
        own = self.spec.sample_rate
        if sample_rate is not None and sample_rate != own:
            resampling.Resampler(own, sample_rate)  # checks the rate before any work
        if lost is not None:
            kept = tokens.num_codebooks if isinstance(tokens, Tokens) else None
            with self.stream(tokens.lengths.shape[0], kept, sample_rate) as session:
                return session.decode(tokens, final=True, lost=lost)
        with torch.autocast(self.device.type, enabled=False):
            if isinstance(tokens, Latents):
                rows = latent_rows(tokens, self.spec, self.device)
                waves = self.start_decoder(len(rows)).push_latents(rows, final=True)
            else:
                rows = code_rows(tokens, self.spec, self.device)
                waves = self.start_decoder(len(rows)).push(rows, final=True)
        counts = tokens.num_samples.tolist()
        waves = [wave[:count] for wave, count in zip(waves, counts, strict=True)]
        if sample_rate is not None and sample_rate != own:
            waves = [
                torch.from_numpy(resampling.resample(wave.cpu().numpy(), own, sample_rate))
                for wave in waves
            ]
        shape = (len(rows), max((len(wave) for wave in waves), default=0))
        out = torch.zeros(shape, dtype=torch.float32, device=self.device)
        for row, samples in enumerate(waves):
            out[row, : len(samples)] = samples
        return out

    def stream(
        self,
        batch_size: int = 1,
        num_codebooks: int | None = None,
        sample_rate: int | None = None,
    ) -> StreamSession:
        """Open a session that encodes and decodes in chunks of any size (a context manager).

        Args:
            batch_size: number of independent rows.
            num_codebooks: as in `encode`.
            sample_rate: of the samples that the session takes and returns, in Hz; another one than
                the tokenizer's is converted, with the results of `encode(…, resample=True)` and
                `decode(…, sample_rate=…)`. Default: the tokenizer's.

        Raises:
            WaveError: a batch size below 1, or a rate that can't be converted.
            TokenError: `num_codebooks` out of range.
        """
        if batch_size < 1:
            raise WaveError(f"batch_size must be at least 1, got {batch_size}")
        spec = self.spec
        continuous = num_codebooks is None and not spec.tokens.num_codebooks
        kept = 0 if continuous else check_codebooks(num_codebooks, spec)
        return StreamSession(self, batch_size, kept, sample_rate)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `config.json` and `model.safetensors`; `load(directory)` restores the tokenizer.

        If the weights were changed after `load`, it is saved under the changed name that its tokens
        carry, too.
        """
        checkpoint.save(self, Path(directory))

    @classmethod
    @made_plainly
    def from_pretrained(cls, directory: str | Path) -> Self:
        """Load a tokenizer of this class from a directory that `save_pretrained` wrote.

        Raises:
            CheckpointError: a file is missing or damaged, or belongs to another family.
        """
        return checkpoint.read(Path(directory), cls)

    # --- identity ------------------------------------------------------------------------------

    def _made_whole(self) -> None:
        self._as_made = AsMade(self)

    def identity(self, sampled: bool = True) -> Identity:
        """Return the spec and digests of the current weights, cached until the weights change.

        Args:
            sampled: see `WeightWatch.holds`.

        Raises:
            WeightsError: as for `spec`.
        """
        known = self._known
        if known is None or not known.holds(self, sampled):
            with torch.inference_mode(False), torch.no_grad(), plain_torch():
                known = self._known = Identity(self, self._as_made)
        return known

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        moved = super()._apply(fn, recurse)
        if self._known is not None and not self._known.holds(self, sampled=False):
            self._known = None  # which also frees the old weights' memory
        return moved

    def keep_name(self) -> None:
        """Bind the name to the current weights; with other weights, it gets a suffix."""
        self._named = None
        self._known = None
        self._named = self.name, self.spec.tokens.digest

    def _name_for(self, digest: str) -> str:
        """Return the name of tokens with this digest: suffixed if the weights have changed."""
        if self._named is None or self._named == (self.name, digest):
            return self.name
        name, _ = self._named
        if self.name != name:
            return self.name  # the user has set another name
        return _CHANGED.sub("", name) + f"@{digest[:8]}"

    # --- copies --------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return weights and configuration; values derived from the weights are computed again."""
        return {**self.__dict__, "_known": None}

    def __copy__(self) -> Self:
        made = type(self).__new__(type(self))
        made.__setstate__(self.__getstate__())  # type: ignore[no-untyped-call]
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__setstate__(copy.deepcopy(self.__getstate__(), memo))  # type: ignore[no-untyped-call]
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return reduced(self) or super().__reduce_ex__(protocol)
