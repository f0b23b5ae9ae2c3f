"""Sessions driven at random, each utterance compared with what the tokenizer says offline."""

from dataclasses import dataclass, field

import numpy as np
import torch

from syllabary import AudioTokenizer, Tokens

from ...conftest import synthetic_speech


@dataclass
class Utterance:
    """What a row is at, and what came of it so far."""

    wave: torch.Tensor
    at: int = 0
    parts: list[Tokens] = field(default_factory=list)
    pcm: list[torch.Tensor] = field(default_factory=list)
    decoded: int = 0
    encode_ended: bool = False
    decode_ended: bool = False

    @property
    def tokens(self) -> Tokens:
        return Tokens.concat(self.parts)


class RandomWalk:
    """A session whose rows join, pause, leave, begin afresh and move, as a seed has it.

    Args:
        tokenizer: its codes and samples are compared.
        rows: of the session; after a move it may have more.
        seed: of everything.
        longest: samples of an utterance.
        move: sometimes, all rows move to places of another session.
    """

    def __init__(
        self,
        tokenizer: AudioTokenizer,
        rows: int,
        seed: int,
        longest: int = 6000,
        move: bool = True,
    ) -> None:
        self.tokenizer, self.longest, self.move = tokenizer, longest, move
        self.rng = np.random.default_rng(seed)
        self.session = tokenizer.stream(batch_size=rows)
        self.rows: list[Utterance | None] = [None] * rows
        self.compared = 0

    def run(self, steps: int) -> None:
        """Go so many steps, then to the end of every utterance."""
        for _ in range(steps):
            for row in range(len(self.rows)):
                self._come_and_go(row)
            self._encode()
            self._decode()
            if self.move and self._chance(0.2):
                self._move()
        while any(each and not each.decode_ended for each in self.rows):
            self._encode(hurry=True)
            self._decode(hurry=True)
            self._compare()

    def _chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _come_and_go(self, row: int) -> None:
        self._compare()
        utterance = self.rows[row]
        if utterance is not None and not self._chance(0.1):
            return
        # An ended row, one that never began, or, seldom, one in the middle.
        if self._chance(0.6):
            self.session.reset(row)
            rate = self.tokenizer.spec.sample_rate
            count = int(self.rng.integers(0, self.longest))
            wave = synthetic_speech(count, int(self.rng.integers(1000)), rate)
            self.rows[row] = Utterance(torch.from_numpy(wave))

    def _encode(self, hurry: bool = False) -> None:
        counts, finals = [], []
        for each in self.rows:
            left = len(each.wave) - each.at if each else 0
            count = left if hurry else int(self.rng.integers(0, left + 1))
            count = 0 if not hurry and self._chance(0.3) else count
            counts.append(count)
            finals.append(each is not None and count == left and (hurry or self._chance(0.5)))
        batch = torch.full((len(self.rows), max(counts) + 3), float("nan"))
        for row, (each, count) in enumerate(zip(self.rows, counts, strict=True)):
            if each:
                batch[row, :count] = each.wave[each.at : each.at + count]
        tokens = self.session.encode(batch, counts, final=finals)
        for row, each in enumerate(self.rows):
            if each:
                each.at += counts[row]
                each.parts.append(tokens[row])
                each.encode_ended |= finals[row]
            else:
                assert int(tokens.lengths[row]) == 0

    def _decode(self, hurry: bool = False) -> None:
        pieces, finals = [], []
        for each in self.rows:
            if each is None:
                nothing = torch.zeros(1, 0)
                pieces.append(self.tokenizer.encode(nothing, self.tokenizer.spec.sample_rate))
                finals.append(False)
                continue
            tokens = each.tokens
            left = int(tokens.lengths) - each.decoded
            count = left if hurry or self._chance(0.5) else int(self.rng.integers(0, left + 1))
            pieces.append(tokens.frames(each.decoded, each.decoded + count))
            each.decoded += count
            finals.append(each.encode_ended and count == left and (hurry or self._chance(0.7)))
        before = self.session.samples_out
        wave = self.session.decode(Tokens.batch(pieces), final=finals)
        for row, each in enumerate(self.rows):
            count = self.session.samples_out[row] - before[row]
            assert each is not None or count == 0
            if each:
                each.pcm.append(wave[row, :count])
                each.decode_ended |= finals[row]

    def _move(self) -> None:
        # No more than a few rows, so that a walk stays cheap.
        others = int(self.rng.integers(0, 3)) if len(self.rows) < 6 else 0
        there = self.tokenizer.stream(batch_size=len(self.rows) + others)
        places = self.rng.permutation(there.batch_size)[: len(self.rows)]
        rows: list[Utterance | None] = [None] * there.batch_size
        for row, place in enumerate(places):
            there.import_row(int(place), self.session.export_row(row))
            rows[place] = self.rows[row]
        self.session.__exit__()
        self.session, self.rows = there, rows

    def _compare(self) -> None:
        """Look at the utterances that have ended, once each."""
        for row, each in enumerate(self.rows):
            if each is None or not each.decode_ended:
                continue
            offline = self.tokenizer.encode(each.wave, self.tokenizer.spec.sample_rate)
            assert each.tokens.equal(offline)
            assert torch.equal(torch.cat(each.pcm), self.tokenizer.decode(offline)[0])
            assert self.session.samples_in[row] == len(each.wave)
            self.compared += 1
            self.rows[row] = None
