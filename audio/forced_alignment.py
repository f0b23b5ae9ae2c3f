"""Forced alignment of known words by pocketsphinx: its decoders, and the passes over an utterance.

Every utterance has a decoder of its own, with a dictionary of its words only (11 ms): a reused one
keeps adaptation from earlier utterances, which moves a boundary now and then.
"""

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

#: Hz: the acoustic model's sample rate, and its frames a second.
SAMPLE_RATE = 16000
FRAME_RATE = 100

#: Seconds from the nominal centre of a frame of 10 ms to that of the recogniser's window, which is
#: 25.6 ms long and begins with the frame.
WINDOW_SHIFT = 0.0128 - 0.5 / FRAME_RATE


def fitted_to_words(package: Any, words: Any, spellings: Sequence[str], samples: np.ndarray) -> Any:
    """Find the path of an utterance through its words.

    Args:
        package: the module `pocketsphinx`.
        words: its dictionary, of `dictionary`.
        spellings: the words in order, as the dictionary writes them.
        samples: (samples,) int16 at 16 kHz.

    Returns:
        A pocketsphinx `Decoder` after its first pass, which finds words, pauses between them and
        the pronunciation of words with several.

    Raises:
        RuntimeError: the audio does not fit the words.
    """
    decoder = _decoder_of(package, words, spellings)
    decoder.set_align_text(" ".join(spellings))
    decode_utterance(decoder, samples)
    if decoder.hyp() is None:
        raise RuntimeError("no path through the words")
    return decoder


def dictionary(package: Any) -> Any:
    """Load the US English dictionary inside the package: a `Decoder` with `lookup_word`."""
    return package.Decoder(lm=None, loglevel="FATAL")


def decode_utterance(decoder: Any, samples: np.ndarray) -> None:
    """Decode a whole utterance, (samples,) int16.

    Raises:
        RuntimeError: pocketsphinx fails.
    """
    decoder.start_utt()
    try:
        decoder.process_raw(samples.tobytes(), full_utt=True)
    finally:
        decoder.end_utt()


def _decoder_of(package: Any, words: Any, spellings: Sequence[str]) -> Any:
    """Make a decoder for these words, in all their pronunciations."""
    lines = []
    for spelling in sorted(set(spellings)):
        form, number = spelling, 1
        while (pronunciation := words.lookup_word(form)) is not None:
            lines.append(f"{form} {pronunciation}\n")
            number += 1
            form = f"{spelling}({number})"
    with tempfile.NamedTemporaryFile("w", suffix=".dict", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        return package.Decoder(
            dict=file.name,
            lm=None,
            samprate=SAMPLE_RATE,
            cmn="batch",
            # The lattice's best path has words of no duration, which a second pass rejects.
            bestpath=False,
            # A transcript has few paths: the model's dictation beams prune the right one at
            # hesitations, and squeeze the remaining words into the rest.
            beam=1e-200,
            wbeam=1e-200,
            pbeam=1e-200,
            loglevel="FATAL",
        )
