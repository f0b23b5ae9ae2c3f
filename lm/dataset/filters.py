"""`Filters`: which utterances to leave out, each with the reason."""

from dataclasses import dataclass
from typing import Any

from ...errors import DatasetError
from .measures import Measures


@dataclass(frozen=True)
class Filters:
    """Bounds; None: no bound. What exceeds one is dropped, and counted with the reason.

    Attributes:
        min_duration, max_duration: seconds.
        max_clipping: share of samples at full scale.
        min_level, max_level: root mean square, dB over full scale.
        min_snr: dB, see `Measures.snr_db`; without speech there is none, and the item is dropped.
        min_speech: share of windows with speech.
        min_characters, max_characters: of the text, a second.
        languages: those to keep; an item whose language is not known is dropped.
        need_text: drop items without a text.
        near_duplicates: drop an item whose n-grams of codes share this much (Jaccard similarity,
            estimated) with an earlier one's.
    """

    min_duration: float | None = None
    max_duration: float | None = None
    max_clipping: float | None = None
    min_level: float | None = None
    max_level: float | None = None
    min_snr: float | None = None
    min_speech: float | None = None
    min_characters: float | None = None
    max_characters: float | None = None
    languages: tuple[str, ...] = ()
    need_text: bool = False
    near_duplicates: float | None = None

    def __post_init__(self) -> None:
        for low, high in (
            ("min_duration", "max_duration"),
            ("min_level", "max_level"),
            ("min_characters", "max_characters"),
        ):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise DatasetError(f"{low} {least:g} exceeds {high} {most:g}")
        for share in ("max_clipping", "min_speech", "near_duplicates"):
            value = getattr(self, share)
            if value is not None and not 0 <= value <= 1:
                raise DatasetError(f"{share} is a share from 0 to 1, got {value:g}")
        if self.near_duplicates == 0:
            raise DatasetError("near_duplicates 0 would drop all items but one")

    @property
    def needs_speech(self) -> bool:
        """Whether speech has to be found."""
        return self.min_snr is not None or self.min_speech is not None

    def to_json(self) -> dict[str, Any]:
        """Only what is set."""
        default = Filters()
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if value != getattr(default, name)
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Filters":
        languages = tuple(fields.get("languages", ()))
        return cls(**{**fields, "languages": languages})

    def reason_before(self, text: str | None, language: str | None) -> str | None:
        """Why an item is dropped before its sound is read; None if it isn't."""
        if self.languages:
            if language is None:
                return "language not known"
            spoken = language.lower().replace("_", "-")
            wanted = [name.lower().replace("_", "-") for name in self.languages]
            if not any(spoken == name or spoken.startswith(f"{name}-") for name in wanted):
                return "language"
        if self.need_text and not (text and text.strip()):
            return "no text"
        return None

    def reason(self, measures: Measures, text: str | None) -> tuple[str, float | None] | None:
        """The first reason to drop an item, and the value; None to keep it."""
        for name, value in self._values(measures, text):
            least, most = getattr(self, f"min_{name}", None), getattr(self, f"max_{name}", None)
            if (least is None and most is None) or (value is None and name == "characters"):
                continue
            if value is None:
                return f"no speech to measure {name} of", None
            if least is not None and value < least:
                return f"{name} below {least:g}", value
            if most is not None and value > most:
                return f"{name} above {most:g}", value
        return None

    def _values(self, measures: Measures, text: str | None) -> list[tuple[str, float | None]]:
        characters = None
        if text is not None and measures.seconds > 0:
            characters = len("".join(text.split())) / measures.seconds
        return [
            ("duration", measures.seconds),
            ("clipping", measures.clipped),
            ("level", measures.level_db),
            ("speech", measures.speech),
            ("snr", measures.snr_db),
            ("characters", characters),
        ]
