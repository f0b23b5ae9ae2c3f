"""From the ids of a language model to speech: at once, or while the model writes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from ..errors import TokenError
from .arrays import Array
from .patterns.pattern import Pattern
from .vocabulary import Vocabulary
from .written_codes import Repairs, WrittenCodes

if TYPE_CHECKING:
    from torch import Tensor

    from ..codecs.interface import AudioTokenizer
    from ..codecs.tokens import Tokens
    from ..semantic.token_bpe import PieceCoder


@dataclass(frozen=True)
class Speech:
    """What ids sound like.

    Attributes:
        wave: (samples,) float32.
        sample_rate: in Hz.
        tokens: of the frames, one row.
        repairs: of what was wrong with the ids.
    """

    wave: "Tensor"
    sample_rate: int
    tokens: "Tokens"
    repairs: Repairs


def to_speech(
    ids: Array,
    vocabulary: Vocabulary,
    tokenizer: "AudioTokenizer",
    pattern: Pattern | None = None,
    *,
    coder: "PieceCoder | None" = None,
    repair: bool = False,
    frames: int | None = None,
) -> Speech:
    """Decode the ids of one utterance, as a language model wrote them.

    Args:
        ids: (n,) of one stream, in which text and markers may stand between frames, or (streams,
            steps).
        vocabulary: of the ids.
        tokenizer: whose codes they are.
        pattern: as in `Vocabulary.encode`.
        coder: of a vocabulary of byte-pair encoded units.
        repair: repair what no utterance has (see `WrittenCodes`); else it is an error.
        frames: number of frames, for patterns that need it.

    Raises:
        TokenMismatchError: the vocabulary is of another tokenizer.
        TokenError: without `repair`, an id that is no code of the codebook that belongs there, or
            an end within a frame.
        PatternError, VocabularyError: the pattern does not fit the ids, or the vocabulary.
    """
    import torch

    from ..codecs.tokens import Tokens

    stream = SpeechStream(vocabulary, tokenizer, pattern, coder=coder, repair=repair, frames=frames)
    with stream:
        parts = [stream.push(ids), stream.finish()]
    tokens = Tokens.concat(stream.tokens)
    return Speech(torch.cat(parts), tokenizer.spec.sample_rate, tokens, stream.repairs)


class SpeechStream:
    """Speech while a model writes: ids in, samples out, the same as `to_speech` gives.

        with SpeechStream(vocabulary, tokenizer, pattern) as stream:
            for ids in generated:
                play(stream.push(ids))
            play(stream.finish())

    Args:
        vocabulary, tokenizer, pattern, coder, repair, frames: as in `to_speech`.

    Attributes:
        tokens: of the frames so far, a part for each call.

    Raises:
        TokenMismatchError: the vocabulary is of another tokenizer.
        PatternError, VocabularyError: the pattern does not fit the vocabulary.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        tokenizer: "AudioTokenizer",
        pattern: Pattern | None = None,
        *,
        coder: "PieceCoder | None" = None,
        repair: bool = False,
        frames: int | None = None,
    ) -> None:
        from ..codecs.streaming.concealment import silence_of
        from ..codecs.tokens import check_same_tokenizer

        vocabulary.check_spec(tokenizer.spec.tokens if coder is None else coder.spec)
        if coder is not None:
            check_same_tokenizer(coder.base, tokenizer.spec.tokens)
            if coder.num_codebooks > 1:
                raise TokenError(
                    f"{coder.bpe.name} joins {coder.num_codebooks} codebooks: its pieces end "
                    "within frames, which a stream can't decode; use coder.from_ids"
                )
        self.vocabulary, self.tokenizer, self._coder = vocabulary, tokenizer, coder
        fill = None
        if repair and coder is None:
            fill = silence_of(tokenizer).tolist()[: vocabulary.codebooks]
        self._codes = WrittenCodes(vocabulary, pattern, repair=repair, fill=fill, frames=frames)
        self._session = tokenizer.stream(num_codebooks=tokenizer.spec.tokens.num_codebooks)
        self.tokens: list[Tokens] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._session.__exit__(*failure)

    @property
    def repairs(self) -> Repairs:
        """So far."""
        return self._codes.repairs

    def push(self, ids: Array) -> "Tensor":
        """Take ids; give the samples (samples,) float32 that they complete, possibly none.

        Raises:
            TokenError, PatternError: as for `to_speech`.
            WaveError: the stream has ended.
        """
        return self._decode(self._codes.push(ids), final=False)

    def finish(self) -> "Tensor":
        """End the utterance; give the remaining samples (samples,).

        Raises:
            TokenError: without `repair`, the ids ended within a frame.
            WaveError: the stream has ended.
        """
        self._codes.finish()
        return self._decode(np.zeros((self._codes.pattern.num_codebooks, 0), np.int64), final=True)

    def _decode(self, codes: np.ndarray, final: bool) -> "Tensor":
        import torch

        from ..codecs.tokens import Tokens

        if not final and not codes.shape[1]:
            return torch.zeros(0)
        if self._coder is not None:
            pieces = self._coder.from_ids([codes[0]])
            tokens = self._coder.decode(pieces).restore()
        else:
            spec, count = self.vocabulary.spec, codes.shape[1]
            given = self._codes.global_codes
            tokens = Tokens(
                codes=torch.from_numpy(np.ascontiguousarray(codes))[None],
                lengths=torch.tensor([count]),
                num_samples=torch.tensor([count * spec.hop]),
                spec=spec,
                global_codes=torch.tensor([given]) if spec.global_codebook_sizes else None,
            )
        self.tokens.append(tokens)
        return self._session.decode(tokens, final)[0]
