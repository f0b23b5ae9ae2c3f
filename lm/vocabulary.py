"""`Vocabulary`: ids of speech tokens behind those of a text vocabulary, and back to `Tokens`.

    vocabulary = Vocabulary(tokenizer.spec.tokens, first=128_256, codebooks=4)
    rows = vocabulary.encode(tokens)          # an array of ids for each utterance
    tokens = vocabulary.decode(rows)          # the same codes again

It knows which tokenizer its ids are of: what another one made is refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..codecs.spec import TokenSpec
from ..errors import TokenError, TokenMismatchError, VocabularyError
from .arrays import Array
from .naming import NAMINGS, Naming
from .patterns.flatten import Flatten
from .patterns.pattern import Pattern
from .patterns.several_rates import SeveralRates
from .patterns.vall_e import VallE

if TYPE_CHECKING:
    from ..codecs.tokens import Tokens

FORMAT = "syllabary-vocabulary/1"
MAX_ID = 2**31 - 1
#: The marker that fills patterns, where there is one of this name.
PAD = "<|speech_pad|>"


@dataclass(frozen=True)
class Vocabulary:
    """A range of ids: markers, the codes of codebook after codebook, global codes, and one more.

    The last id is of a token that no text has: its name holds this whole description, the
    tokenizer's digest included, and so goes wherever the vocabulary goes.

    Attributes:
        spec: of the tokens.
        first: id of the first marker; ids below are those of text.
        codebooks: how many of the tokenizer's codebooks there are ids for; default: all.
        naming: names of the tokens: one of `NAMINGS`, a template such as ``"<|s_{code}|>"``, or a
            `Naming`.
        markers: names of special tokens, in place of the naming's.

    Raises:
        VocabularyError: there are not so many codebooks, ids don't fit, or names are not distinct.
    """

    spec: TokenSpec
    first: int
    codebooks: int = 0
    naming: Naming | str = "syllabary"
    markers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.naming, str):
            known = NAMINGS.get(self.naming) or Naming(self.naming, NAMINGS["syllabary"].markers)
            object.__setattr__(self, "naming", known)
        if self.markers is None:
            object.__setattr__(self, "markers", self._naming.markers)
        object.__setattr__(self, "markers", tuple(self.markers or ()))
        naming = Naming(self._naming.template, self._markers, self._naming.first_number)
        object.__setattr__(self, "naming", naming)
        most = self.spec.num_codebooks
        if not self.codebooks:
            object.__setattr__(self, "codebooks", most)
        if not 1 <= self.codebooks <= most:
            raise VocabularyError(
                f"{self.codebooks} codebooks; {self.spec.tokenizer} has 1 to {most}"
            )
        if len(self.sizes) > 1 and not self._naming.tells_codebooks_apart():
            raise VocabularyError(
                f"{self._naming.template!r} gives codes of {len(self.sizes)} codebooks the same "
                "names: put {codebook} or {number} in"
            )
        if self.first < 0 or self.stop > MAX_ID:
            raise VocabularyError(f"ids {self.first} to {self.stop - 1}; expected 0 to {MAX_ID}")
        repeated = [name for name in self._markers if self._markers.count(name) > 1]
        if repeated or any(self._pattern.fullmatch(name) for name in self._markers):
            raise VocabularyError(f"markers must differ from each other and from codes: {repeated}")

    # --- ids -------------------------------------------------------------------------------------

    @property
    def _naming(self) -> Naming:
        assert isinstance(self.naming, Naming)
        return self.naming

    @property
    def _markers(self) -> tuple[str, ...]:
        return self.markers or ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each codebook, and after them of each global codebook."""
        return self.spec.codebook_sizes[: self.codebooks] + self.spec.global_codebook_sizes

    @cached_property
    def _bases(self) -> tuple[int, ...]:
        first = self.first + len(self._markers)
        return tuple((first + np.cumsum([0, *self.sizes[:-1]])).tolist())

    @property
    def base(self) -> tuple[int, ...]:
        """Id of code 0 of each codebook."""
        return self._bases[: self.codebooks]

    @property
    def global_base(self) -> tuple[int, ...]:
        """Id of code 0 of each global codebook."""
        return self._bases[self.codebooks :]

    @property
    def speech(self) -> tuple[int, int]:
        """First id of a code, and the id after the last."""
        return self._bases[0], self._bases[0] + sum(self.sizes)

    @property
    def stop(self) -> int:
        """The id after all: the size of the whole vocabulary, for a model's embedding."""
        return self.first + len(self._markers) + sum(self.sizes) + 1

    def marker(self, name: str) -> int:
        """Id of a marker.

        Raises:
            VocabularyError: there is none of this name.
        """
        if name not in self._markers:
            raise VocabularyError(
                f"no marker {name!r}; there are: {', '.join(self._markers) or 'none'}"
            )
        return self.first + self._markers.index(name)

    def bind(
        self,
        pattern: Pattern,
        special: str | int | None = None,
        end: str | int | None = None,
    ) -> Pattern:
        """The pattern, writing the ids of this vocabulary.

        Args:
            pattern: for the codes of as many codebooks as the vocabulary has, of the same sizes.
                Of patterns with several codes of a level in a frame, the levels are the codebooks,
                or each slot is one.
            special: marker, or id, of the steps without a code; default ``<|speech_pad|>``.
            end: marker, or id, of the end that a pattern such as `VallE` has; default: `special`.

        Raises:
            VocabularyError: other codebooks than the vocabulary's, or no such marker.
        """
        base, sizes = self.base, self.sizes[: self.codebooks]
        if isinstance(pattern, SeveralRates) and len(base) == len(pattern.rates):
            levels = [level for level, _ in pattern.order()]
            base, sizes = tuple(base[n] for n in levels), tuple(sizes[n] for n in levels)
        if pattern.sizes != sizes:
            raise VocabularyError(
                f"{pattern} is for codebooks of {list(pattern.sizes)} codes, this vocabulary of "
                f"{self.spec.tokenizer} for {list(sizes)}"
            )
        if special is None:
            if PAD not in self._markers:
                raise VocabularyError(
                    f"no marker {PAD} to fill with; name one: bind(…, special=…), of "
                    f"{', '.join(self._markers) or 'none'}"
                )
            special = PAD
        if isinstance(pattern, VallE):
            pattern = replace(pattern, end=self.marker(end) if isinstance(end, str) else end)
        return pattern.with_ids(base, self.marker(special) if isinstance(special, str) else special)

    # --- Tokens to ids and back ------------------------------------------------------------------

    def encode(
        self, tokens: "Tokens", pattern: Pattern | None = None, *, drop_durations: bool = False
    ) -> list[np.ndarray]:
        """The ids of each row of a batch.

        Args:
            tokens: of this vocabulary's tokenizer, with at least its codebooks; more are left out.
            pattern: how codebooks become one stream of ids or several; default: one after the other
                in each frame.
            drop_durations: of merged units, whose ids say nothing about them.

        Returns:
            int64 ids of each row: (ids,) of one stream, with global codes at the beginning; else
            (streams, steps).

        Raises:
            TokenMismatchError: tokens of another tokenizer.
            TokenError: codes out of range, fewer codebooks, or durations that would be lost.
        """
        from ..codecs.tokens import check_same_tokenizer

        check_same_tokenizer(tokens.spec, self.spec)
        if tokens.num_codebooks < self.codebooks:
            raise TokenError(
                f"{tokens.num_codebooks} codebooks; this vocabulary is for {self.codebooks} of "
                f"{self.spec.tokenizer}: encode with as many"
            )
        if tokens.durations is not None and not drop_durations:
            raise TokenError(
                "ids have no durations: restore() gives every frame its unit, drop_durations=True "
                "leaves them out"
            )
        tokens.check()
        bound = self.bound(pattern)
        codes = tokens.codes[:, : self.codebooks].cpu().numpy()
        lengths = tokens.lengths.cpu().numpy()
        steps, _ = bound.lay(codes, lengths, check=False)
        counts = bound.num_steps(lengths)
        rows = [step[:, :count] for step, count in zip(steps, counts.tolist(), strict=True)]
        if bound.streams > 1:
            if tokens.global_codes is not None:
                raise TokenError(
                    f"{self.spec.tokenizer} has global codes, which {bound.streams} parallel "
                    "streams have no place for: use a pattern of one stream"
                )
            return [np.ascontiguousarray(row) for row in rows]
        flat = [row[0] for row in rows]
        if tokens.global_codes is None:
            return [np.ascontiguousarray(row) for row in flat]
        heads = tokens.global_codes.cpu().numpy() + np.array(self.global_base)
        return [np.concatenate(pair) for pair in zip(heads, flat, strict=True)]

    def decode(
        self,
        rows: Sequence[Array],
        pattern: Pattern | None = None,
        num_samples: Sequence[int] | None = None,
    ) -> "Tokens":
        """Tokens of ids: the inverse of `encode`.

        Args:
            rows: ids of each utterance, as `encode` gave them or a language model wrote them,
                without markers.
            pattern: as given to `encode`.
            num_samples: of each utterance, where known; default: those of whole frames.

        Raises:
            TokenError: an id that is no code of the codebook that belongs there; or no whole
                frames.
            PatternError: a number of steps that no utterance has.
        """
        import torch

        from ..codecs.tokens import Tokens

        bound, codes, heads = self.bound(pattern), [], []
        for number, row in enumerate(rows):
            ids = np.asarray(row.cpu() if hasattr(row, "cpu") else row)
            if ids.size == 0:
                ids = ids.astype(np.int64)
            count = len(self.global_base)
            if bound.streams == 1 and count:
                heads.append(self._global_codes(ids[:count], number))
                ids = ids[count:]
            try:
                codes.append(bound.restore(ids))
            except TokenError as error:
                raise TokenError(f"utterance {number}: {error}{self._stranger(ids)}") from None
        lengths = [row.shape[1] for row in codes]
        padded = np.zeros((len(codes), self.codebooks, max(lengths, default=0)), np.int64)
        for row, found in enumerate(codes):
            padded[row, :, : lengths[row]] = found
        samples = (
            [length * self.spec.hop for length in lengths] if num_samples is None else num_samples
        )
        tokens = Tokens(
            codes=torch.from_numpy(padded),
            lengths=torch.tensor(lengths, dtype=torch.long),
            num_samples=torch.as_tensor(samples, dtype=torch.long),
            spec=self.spec,
            global_codes=torch.from_numpy(np.stack(heads)) if heads else None,
        )
        tokens.check()
        return tokens

    def bound(self, pattern: Pattern | None) -> Pattern:
        """The pattern that `encode` and `decode` use: of this vocabulary's ids.

        Args:
            pattern: of codes, or bound already; default: `Flatten`.

        Raises:
            VocabularyError: as for `bind`.
        """
        if pattern is None:
            pattern = Flatten(self.sizes[: self.codebooks])
        # Where every step of every stream holds a code, nothing is ever filled.
        full = pattern.streams == 1 and pattern.num_steps(1) == pattern.num_codebooks
        own = pattern.base and pattern.special  # bound already, perhaps with another filling
        bound = self.bind(pattern, special=self.stop - 1 if full or own else None)
        if pattern.base == bound.base:
            return pattern
        return self.bind(
            pattern, special=self.stop - 1 if full and PAD not in self._markers else None
        )

    def _global_codes(self, ids: np.ndarray, row: int) -> np.ndarray:
        sizes = np.array(self.spec.global_codebook_sizes)
        codes = ids - np.array(self.global_base)[: len(ids)]
        if len(ids) < len(sizes) or ((codes < 0) | (codes >= sizes)).any():
            raise TokenError(
                f"utterance {row}: must begin with {len(sizes)} ids of global codes, got "
                f"{ids.tolist()}"
            )
        return codes

    def _stranger(self, ids: np.ndarray) -> str:
        """What an id is that is no code of this vocabulary."""
        low, high = self.speech
        wrong = ids[(ids < low) | (ids >= high)]
        if not wrong.size:
            return ""
        first = int(wrong.flat[0])
        if first < self.first or first >= self.stop:
            return f"; id {first} is not of the speech of {self.spec.tokenizer} at all"
        return f"; id {first} is {self.name(first)}: leave markers out"

    def check_spec(self, spec: TokenSpec) -> None:
        """Raise `TokenMismatchError`, naming both, unless the tokens of `spec` are this one's."""
        same = (
            (getattr(spec, name), getattr(self.spec, name))
            for name in TokenSpec.__dataclass_fields__
            if name != "tokenizer"
        )
        if any(given != expected for given, expected in same):
            raise TokenMismatchError(
                f"this vocabulary is of {self.spec.tokenizer} ({self.spec.digest[:12]}), not of "
                f"{spec.tokenizer} ({spec.digest[:12]}): encode with the tokenizer that it is of, "
                "or make a vocabulary for this one"
            )

    # --- names -----------------------------------------------------------------------------------

    @cached_property
    def names(self) -> list[str]:
        """Of all ids from `first`; the last is the description."""
        return [*self._markers, *self._naming.names(self.sizes), self.description]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: self.first + number for number, name in enumerate(self.names)}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self._naming.regex(self.sizes))

    def name(self, index: int) -> str:
        """Of one id.

        Raises:
            VocabularyError: it is not of this vocabulary.
        """
        if not self.first <= index < self.stop:
            raise VocabularyError(
                f"id {index} is not of this vocabulary, which has {self.first} to {self.stop - 1}"
            )
        return self.names[index - self.first]

    def text(self, ids: Array) -> str:
        """Ids (n,) as names, one after the other: what a Hugging Face tokenizer reads."""
        return "".join(map(self.name, np.asarray(ids).tolist()))

    def parse(self, text: str) -> np.ndarray:
        """The inverse of `text`: ids (n,) int64.

        Raises:
            VocabularyError: something else than names is in it.
        """
        options = [self._naming.regex(self.sizes), *map(re.escape, self._markers)]
        found = re.compile("|".join(options)).findall(text)
        if sum(map(len, found)) != len(text):
            rest = re.compile("|".join(options)).sub("", text)
            raise VocabularyError(
                f"{rest[:40]!r} is no name of this vocabulary, whose codes are called "
                f"{self._naming.template}"
            )
        return np.array([self._ids[name] for name in found], np.int64)

    # --- files -----------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "format": FORMAT,
            "spec": self.spec.to_json(),
            "first": self.first,
            "codebooks": self.codebooks,
            "template": self._naming.template,
            "first_number": self._naming.first_number,
            "markers": list(self._markers),
        }

    @classmethod
    def from_json(cls, data: object) -> "Vocabulary":
        """What `to_json` gave.

        Raises:
            VocabularyError: it is no such thing.
            TokenError: its token spec is damaged.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise VocabularyError(f"expected an object of format {FORMAT}")
        kinds = {
            "first": int, "codebooks": int, "template": str, "first_number": int, "markers": list,
        }  # fmt: skip
        if set(data) != {"format", "spec", *kinds}:
            wrong = set(data) ^ {"format", "spec", *kinds}
            raise VocabularyError(f"vocabulary: unknown or missing {', '.join(sorted(wrong))}")
        for name, kind in kinds.items():
            if type(data[name]) is not kind:
                raise VocabularyError(f"vocabulary: {name} is {data[name]!r}")
        if not all(isinstance(name, str) for name in data["markers"]):
            raise VocabularyError("vocabulary: markers must be names")
        markers = tuple(data["markers"])
        return cls(
            TokenSpec.from_json(data["spec"]),
            data["first"],
            data["codebooks"],
            Naming(data["template"], markers, data["first_number"]),
            markers,
        )

    @property
    def description(self) -> str:
        """Name of the last token: everything that `from_description` needs."""
        import json

        return f"<|{FORMAT}:{json.dumps(self.to_json(), separators=(',', ':'), sort_keys=True)}|>"

    @classmethod
    def from_description(cls, name: str) -> "Vocabulary":
        """The vocabulary that a token's name describes.

        Raises:
            VocabularyError, TokenError: it is damaged.
        """
        import json

        head, tail = f"<|{FORMAT}:", "|>"
        if not name.startswith(head) or not name.endswith(tail):
            raise VocabularyError(f"{name[:40]!r} describes no vocabulary")
        try:
            data = json.loads(name[len(head) : -len(tail)])
        except (ValueError, RecursionError) as error:
            raise VocabularyError(f"a vocabulary's description is damaged: {error}") from None
        return cls.from_json(data)
