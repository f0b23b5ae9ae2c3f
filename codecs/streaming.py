"""The streaming protocol: a family's running machines, and the session that a user drives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from ..errors import TokenError, WaveError
from .tokens import Tokens

if TYPE_CHECKING:
    from .interface import AudioTokenizer


class EncoderStream(ABC):
    """An encoder at work on a fixed number of rows, each at its own place in its own audio."""

    @abstractmethod
    def push(self, rows: Sequence[Tensor], final: bool) -> list[Tensor]:
        """Take more samples and give the codes that they settle.

        Args:
            rows: (samples,) float32 for each row; lengths may differ and may be 0.
            final: no more samples will come. Each row must then have given ceil(n / hop) frames
                in all, where n is the number of samples that it ever took.

        Returns:
            (codebooks, frames) int64 for each row.
        """


class DecoderStream(ABC):
    """A decoder at work on a fixed number of rows."""

    @abstractmethod
    def push(self, rows: Sequence[Tensor], final: bool) -> list[Tensor]:
        """Take more codes and give the samples that they settle.

        Args:
            rows: (codebooks, frames) for each row, in range; frames may differ and may be 0.
            final: no more codes will come. Each row must then have given hop samples for every
                frame in all (the caller cuts the last frame to the samples that it stands for).

        Returns:
            (samples,) float32 for each row.
        """


@dataclass(frozen=True)
class StreamEnd:
    """What a session still held when it was flushed.

    Attributes:
        tokens: the last frames, or None if the session never encoded.
        wave: (batch, samples) the last samples, those of `tokens` included, or None if the session
            never decoded.
    """

    tokens: Tokens | None
    wave: Tensor | None


class StreamSession:
    """Encode and decode piece by piece; the codes and samples are those of the offline calls.

    The pieces may have any size. One session serves one loop: if it encodes and decodes, `flush`
    takes the last tokens through its decoder too. It is not safe to share between threads; the
    tokenizer is, so give every thread its own session.

    Attributes:
        samples_in, frames_out: (per row) what `encode` took and gave so far.
        frames_in, samples_out: (per row) what `decode` took and gave so far.
    """

    def __init__(self, tokenizer: "AudioTokenizer", batch_size: int, num_codebooks: int) -> None:
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.num_codebooks = num_codebooks
        self.samples_in = [0] * batch_size
        self.frames_out = [0] * batch_size
        self.frames_in = [0] * batch_size
        self.samples_out = [0] * batch_size
        self._owed = [0] * batch_size  # samples that the decoded tokens stand for
        self._encoder: EncoderStream | None = None
        self._decoder: DecoderStream | None = None
        self._ended: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._encoder = self._decoder = None
        self._ended = {"encode", "decode"}

    @torch.inference_mode(False)
    @torch.no_grad()
    def encode(
        self,
        chunk: Tensor | np.ndarray,
        lengths: Tensor | Sequence[int] | None = None,
        final: bool = False,
    ) -> Tokens:
        """Take more samples and return the frames that they settle, possibly none.

        Args:
            chunk: (batch, samples), or (samples,) for a session of one row, at the tokenizer's
                own sample rate.
            lengths: (batch,) valid samples of each row in this chunk; default: all.
            final: this is the end of every row.

        Returns:
            `Tokens` of the new frames only. `Tokens.concat` of all of them equals the offline
            result.

        Raises:
            WaveError: as in `AudioTokenizer.encode`, or the session was ended before.
        """
        self._check_open("encode")
        tokenizer = self.tokenizer
        rows = tokenizer._rows(chunk, tokenizer.spec.sample_rate, lengths, self.batch_size)
        if self._encoder is None:
            self._encoder = tokenizer.start_encoder(self.batch_size, self.num_codebooks)
        with torch.autocast(tokenizer.device.type, enabled=False):
            codes = self._encoder.push(rows, final)
        hop = tokenizer.spec.tokens.hop
        num_samples = []
        for index, (row, new) in enumerate(zip(rows, codes, strict=True)):
            start = self.frames_out[index] * hop
            self.samples_in[index] += row.shape[0]
            self.frames_out[index] += new.shape[1]
            num_samples.append(min(self.samples_in[index], self.frames_out[index] * hop) - start)
        if final:
            self._ended.add("encode")
        return tokenizer._tokens(codes, num_samples, self.num_codebooks)

    @torch.inference_mode(False)
    @torch.no_grad()
    def decode(self, tokens: Tokens, final: bool = False) -> Tensor:
        """Take more frames and return the samples that they settle, possibly none.

        Args:
            tokens: of this tokenizer, as many rows as the session has.
            final: this is the end of every row: the samples still owed come out.

        Returns:
            (batch, samples) float32, where rows that gave fewer samples are padded with zeros;
            `samples_out` counts the real ones.

        Raises:
            TokenError, TokenMismatchError: as in `AudioTokenizer.decode`; or frames follow one
                that stands for less than a whole frame of samples.
            WaveError: the session was ended before, or has another number of rows.
        """
        self._check_open("decode")
        rows = self.tokenizer._code_rows(tokens)
        if len(rows) != self.batch_size:
            raise WaveError(f"this stream has {self.batch_size} rows, got {len(rows)}")
        hop = self.tokenizer.spec.tokens.hop
        for index, row in enumerate(rows):
            if row.shape[1] and self._owed[index] < self.frames_in[index] * hop:
                raise TokenError(f"row {index} has ended already: its last frame was cut short")
        if self._decoder is None:
            self._decoder = self.tokenizer.start_decoder(self.batch_size)
        with torch.autocast(self.tokenizer.device.type, enabled=False):
            waves = self._decoder.push(rows, final)
        samples = []
        for index, wave in enumerate(waves):
            self.frames_in[index] += rows[index].shape[1]
            self._owed[index] += int(tokens.num_samples[index])
            wave = wave[: self._owed[index] - self.samples_out[index]]
            self.samples_out[index] += wave.shape[0]
            samples.append(wave)
        if final:
            self._ended.add("decode")
        if len(samples) == 1:
            return samples[0][None]
        return torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)

    def flush(self) -> StreamEnd:
        """End the input and return what was still held."""
        tokens = wave = None
        if self._encoder is not None and "encode" not in self._ended:
            tokens = self.encode(torch.zeros(self.batch_size, 0), final=True)
        if self._decoder is not None and "decode" not in self._ended:
            rest = tokens if tokens is not None else self._no_tokens()
            wave = self.decode(rest, final=True)
        return StreamEnd(tokens, wave)

    def _no_tokens(self) -> Tokens:
        codes = torch.zeros(self.num_codebooks, 0, dtype=torch.long, device=self.tokenizer.device)
        return self.tokenizer._tokens(
            [codes] * self.batch_size, [0] * self.batch_size, self.num_codebooks
        )

    def _check_open(self, what: str) -> None:
        if what in self._ended:
            raise WaveError(f"this session has ended: it can't {what} any more; open another one")
