"""`Study`: a measurement of a system as a whole, rather than of one reconstruction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...audio.manifests import Utterance
from ...codecs.tokens import Tokens
from ..results.schema import Curve as Curve
from ..results.schema import Value as Value
from ..systems.interface import System


@dataclass
class Findings:
    """The results of a study.

    Attributes:
        values: in the order of a table's columns.
        curves: for plots.
        missing: by name of a value, why it could not be measured.
        notes: sentences for the reader.
    """

    values: list[Value] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Bench:
    """The input of a study.

    Attributes:
        system: measured.
        items: the utterances whose reconstructions are scored.
        everything: all utterances of the data, every split, for training probes.
        wave: returns (samples,) float32 of an utterance, at the system's sample rate.
        reconstruction: returns (samples,) float32 of an utterance, at the system's rate, cached.
        tokens: returns tokens of an utterance, batch of one, cached; raises `SyllabaryError` for a
            system without tokens.
        folder: kept between runs, for results that are expensive to compute.
        seed: of all random choices.
        shared: folder kept between runs and shared by all systems, for results independent of the
            system; default: `folder`.
    """

    system: System
    items: Sequence[Utterance]
    everything: Sequence[Utterance]
    wave: Callable[[Utterance], np.ndarray]
    reconstruction: Callable[[Utterance], np.ndarray]
    tokens: Callable[[Utterance], Tokens]
    folder: Path
    seed: int = 0
    shared: Path | None = None


@dataclass(frozen=True)
class Study:
    """A measurement of a system.

    Attributes:
        name: as on the command line: ``damage``, ``probe:digits``.
        heading: of its table.
        run: measures. Raises `MetricError` if nothing can be measured.
        description: what is measured, and how, in a sentence or two; for the page.
        unsuitable: returns why the study can't be applied to a system (a reference has no tokens),
            or
            None.
        paper: source of the method.
        alone: no other task may run in parallel, as it measures time.
        form: a version of what is measured, if one name may mean several things: results of another
            form are not resumed.
        variant: returns what else decides its results, such as the recogniser that the user named;
            "" for nothing. Raises `MetricError` if that can't be used.
    """

    name: str
    heading: str
    run: Callable[[Bench], Findings]
    description: str
    unsuitable: Callable[[System], str | None] = lambda system: None
    paper: str = ""
    alone: bool = False
    form: str = ""
    variant: Callable[[], str] = lambda: ""

    @property
    def about(self) -> dict[str, str]:
        """What results say of the study."""
        return {name: getattr(self, name) for name in ("name", "heading", "description", "paper")}

    @property
    def whole_form(self) -> str:
        """The form with the variant."""
        chosen = self.variant()
        return f"{self.form}; {chosen}" if chosen else self.form

    def is_done_by(self, form: object) -> bool:
        """Whether results of a form have what is asked for: a variant may have more than none."""
        if self.variant():
            return form == self.whole_form
        return form == self.form or (isinstance(form, str) and form.startswith(f"{self.form}; "))
