"""Evaluation: scores, studies, probes and plots of reconstructions and tokens."""

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .metrics.catalogue import register as register_metric
    from .metrics.interface import Clip, Metric, MetricError, Ratio
    from .probes.task import ProbeTask as ProbeTask
    from .results.schema import Curve, Value
    from .studies.interface import Bench, Findings, Study
    from .systems.interface import Reconstruction, System

__all__ = [
    "Bench",
    "Clip",
    "Curve",
    "Findings",
    "Metric",
    "MetricError",
    "ProbeTask",
    "Ratio",
    "Reconstruction",
    "Study",
    "System",
    "Value",
    "register_metric",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Bench": "syllabary.eval.studies.interface",
        "Clip": "syllabary.eval.metrics.interface",
        "Curve": "syllabary.eval.results.schema",
        "Findings": "syllabary.eval.studies.interface",
        "Metric": "syllabary.eval.metrics.interface",
        "MetricError": "syllabary.eval.metrics.interface",
        "ProbeTask": "syllabary.eval.probes.task",
        "Ratio": "syllabary.eval.metrics.interface",
        "Reconstruction": "syllabary.eval.systems.interface",
        "Study": "syllabary.eval.studies.interface",
        "System": "syllabary.eval.systems.interface",
        "Value": "syllabary.eval.results.schema",
        "register_metric": "syllabary.eval.metrics.catalogue:register",
    },
)
