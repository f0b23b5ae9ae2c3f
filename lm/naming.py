"""Names of speech tokens: `<|s_17|>`, `<|audio_17|>`, `<codec_layer3_17>` and whatever else.

A name is a template with the fields ``{code}``, ``{codebook}`` and ``{number}``, which counts
through all codebooks. Names are made, and known again by a regular expression that takes exactly
those that exist: `<|s_65536|>` is text where there are 65,536 codes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

from ..errors import VocabularyError

_FIELDS = ("code", "codebook", "number")


@dataclass(frozen=True)
class Naming:
    """How a published system calls its tokens.

    Attributes:
        template: of the codes' names.
        markers: names of special tokens, which come first.
        first_number: what ``{number}`` begins with.
    """

    template: str
    markers: tuple[str, ...] = ()
    first_number: int = 0

    def __post_init__(self) -> None:
        try:
            parts = list(Formatter().parse(self.template))
        except ValueError as error:
            raise VocabularyError(f"naming {self.template!r}: {error}") from None
        found = [name for _, name, _, _ in parts if name is not None]
        if any(spec or conversion for _, _, spec, conversion in parts) or not set(found) <= set(
            _FIELDS
        ):
            raise VocabularyError(
                f"naming {self.template!r}: the fields are {{code}}, {{codebook}} and {{number}}"
            )
        if not {"code", "number"} & set(found) or len(set(found)) < len(found):
            raise VocabularyError(
                f"naming {self.template!r} must have {{code}} or {{number}}, and each field once"
            )
        literals = [text for text, *_ in parts]
        if "code" in found and "codebook" in found and not any(literals[1 : len(found)]):
            raise VocabularyError(f"naming {self.template!r}: 1 and 11 look like 11 and 1 in it")
        for text in (*literals, *self.markers):
            if not text.isprintable() or any(c.isspace() for c in text):
                raise VocabularyError(f"{text!r}: names are printable and have no spaces")
        ends = parts[-1][1] is None and not literals[-1][0].isdigit()
        if not literals[0] or literals[0][-1].isdigit() or not ends or not all(self.markers):
            raise VocabularyError(
                f"naming {self.template!r}: a name begins and ends with something else than its "
                "number, such as <|s_{code}|>, so that one can follow another"
            )

    def tells_codebooks_apart(self) -> bool:
        return "{number}" in self.template or "{codebook}" in self.template

    def names(self, sizes: Sequence[int]) -> list[str]:
        """Of all codes, codebook after codebook."""
        found, number = [], self.first_number
        for codebook, size in enumerate(sizes):
            template = self.template.replace("{codebook}", str(codebook))
            before, field, after = _cut(template)
            first = number if field == "number" else 0
            found += [f"{before}{code}{after}" for code in range(first, first + size)]
            number += size
        return found

    def regex(self, sizes: Sequence[int]) -> str:
        """A regular expression of these names and no others, for any engine."""
        if "{number}" in self.template:
            before, _, after = _cut(self.template)
            last = self.first_number + sum(sizes) - 1
            return re.escape(before) + numbers(self.first_number, last) + re.escape(after)
        shapes: dict[int, list[int]] = {}
        for codebook, size in enumerate(sizes):
            shapes.setdefault(size, []).append(codebook)
        options = []
        for size, codebooks in shapes.items():
            text = re.escape(self.template).replace(r"\{code\}", numbers(0, size - 1))
            which = "(?:" + "|".join(map(str, codebooks)) + ")"
            options.append(text.replace(r"\{codebook\}", which))
        return options[0] if len(options) == 1 else "(?:" + "|".join(options) + ")"


def _cut(template: str) -> tuple[str, str, str]:
    """What comes before the field of a template that has one, the field, and what comes after."""
    found = re.search(r"\{(code|number)\}", template)
    assert found
    return template[: found.start()], found[1], template[found.end() :]


def numbers(first: int, last: int) -> str:
    """A regular expression of the whole numbers from `first` to `last`, without leading zeros."""
    options = []
    while first <= last:
        # As many digits free at the end as keep all numbers of this form within the range.
        free, text = 0, str(first)
        while (
            first > 0
            and free < len(text) - 1
            and first % 10 ** (free + 1) == 0
            and first + 10 ** (free + 1) - 1 <= last
        ):
            free += 1
        step = 10**free
        # The digit before the free ones runs as far as the range and its decade let it.
        digit = first // step % 10
        most = min(9 - digit, (last - first + 1) // step - 1)
        head = str(first // step)[:-1]
        tail = f"[{digit}-{digit + most}]" if most else str(digit)
        options.append(head + tail + ("[0-9]" if free == 1 else f"[0-9]{{{free}}}" if free else ""))
        first += (most + 1) * step
    return "(?:" + "|".join(options) + ")"


#: What published systems write. Orpheus's ten markers are custom tokens too.
NAMINGS: dict[str, Naming] = {
    "syllabary": Naming(
        "<|s{codebook}_{code}|>", ("<|speech_start|>", "<|speech_end|>", "<|speech_pad|>")
    ),
    "llasa": Naming(
        "<|s_{code}|>",
        tuple(
            f"<|{kind}_{what}_{edge}|>"
            for kind in ("TEXT", "SPEECH")
            for what in ("GENERATION", "UNDERSTANDING")
            for edge in ("START", "END")
        ),
    ),
    "glm-4-voice": Naming("<|audio_{code}|>", ("<|begin_of_audio|>", "<|end_of_audio|>")),
    "orpheus": Naming(
        "<custom_token_{number}>", tuple(f"<custom_token_{n}>" for n in range(10)), 10
    ),
    "slamkit": Naming("<Un{code}>"),
    "spirit-lm": Naming("[Hu{code}]", ("[Text]", "[Speech]")),
    "espnet": Naming("<codec_layer{codebook}_{code}>"),
}
