"""`syllabary fit kmeans`: k-means units of any encoder, fitted to speech or given centroids."""

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import click

from ..cores import use_one_thread
from ..errors import SyllabaryError
from . import options
from .batch import hours

if TYPE_CHECKING:
    import numpy as np

    from ..audio.manifests import Utterance
    from ..semantic.encoders.interface import SpeechEncoder
    from ..semantic.encoders.layers import LayerChoice
    from ..semantic.units.fitting import FitOutcome, FitProgress

_SHOWN_FAILURES = 5
#: Utterances for `--phonetic`: some 40 minutes of speech.
_ALIGNED = 1000


class LayersType(click.ParamType):
    name = "N[,N…]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"-?\d+(,-?\d+)*", str(value)):
            self.fail(f"expected a layer's number, or several with commas: {value!r}", param, ctx)
        return tuple(map(int, str(value).split(",")))


@click.command()
@click.argument("inputs", nargs=-1, metavar="[IN]...")
@click.option(
    "--encoder",
    required=True,
    metavar="NAME",
    help="mfcc, log-mel, a directory or id of a published model, torchaudio:BUNDLE, or a unit "
    "tokenizer whose encoder is taken.",
)
@options.output("Directory of the tokenizer, which `--codec` and `load` take.")
@click.option(
    "--layer",
    "layers",
    type=LayersType(),
    help="Transformer layer, or several; 0 is their input, -1 the output. Default: the middle one.",
)
@click.option(
    "--combine",
    type=click.Choice(["concatenate", "sum", "each"]),
    default="concatenate",
    show_default=True,
    help="Several layers: concatenate, average, or use a codebook for each.",
)
@click.option("--weights", metavar="W,W…", help="Weights of the layers, for --combine sum.")
@click.option(
    "--phonetic",
    is_flag=True,
    help="Features in the directions in which the phones of the transcripts differ: of IN's "
    "English utterances with a text, a thousand are aligned. For published models, and content "
    "encoders such as that of units-16k.",
)
@click.option(
    "--window", type=float, metavar="S", help="Window for longer audio, in seconds.  [default: 30]"
)
@click.option(
    "--clusters", type=click.IntRange(min=2), metavar="K", help="Number of units.  [default: 500]"
)
@click.option("--from", "source", metavar="FILE", help="Use the centroids of a k-means file.")
@click.option("--name", metavar="NAME", help="Tokenizer name; default: the directory's.")
@options.split
@click.option("--max-hours", type=click.FloatRange(0, min_open=True), metavar="H")
@click.option(
    "--exclude-source", "excluded", multiple=True, metavar="NAME", help="Skip manifest lines of it."
)
@click.option("--iterations", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--algorithm", type=click.Choice(["lloyd", "mini-batch"]), default="lloyd", show_default=True
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    help="Type of the features on disk; default: float32 for up to 128 dimensions.",
)
@click.option(
    "--cache",
    metavar="FOLDER",
    help="Keep features here for further fits. Default: a temporary folder beside the output.",
)
@options.device
@options.force
def kmeans(
    inputs: tuple[str, ...],
    encoder: str,
    output: str | None,
    layers: tuple[int, ...] | None,
    combine: Literal["concatenate", "sum", "each"],
    weights: str | None,
    phonetic: bool,
    window: float | None,
    clusters: int | None,
    source: str | None,
    name: str | None,
    split: str | None,
    max_hours: float | None,
    excluded: tuple[str, ...],
    iterations: int,
    algorithm: Literal["lloyd", "mini-batch"],
    seed: int,
    dtype: Literal["float16", "float32"] | None,
    cache: str | None,
    device: str,
    force: bool,
) -> None:
    """Fit k-means units to an encoder's features of speech.

    IN is audio, as for `syllabary encode`. Features are written to disk once, in shards; the same
    command resumes an interrupted fit, and gives the same file. With --from, the centroids are
    taken from a file; IN is then optional, and gives the units their mean spectra for decoding.
    """
    if output is None:
        raise click.UsageError("say -o DIRECTORY for the tokenizer")
    if source is None and not inputs:
        raise click.UsageError("no IN was given to fit on")
    if source is not None and clusters is not None:
        raise click.UsageError("--clusters and --from exclude each other")
    if phonetic and not inputs:
        raise click.UsageError("--phonetic needs IN with transcripts")
    target = Path(output).resolve()
    if target.is_file():
        raise SyllabaryError(f"{target} is a file; expected a folder for the tokenizer")
    if (target / "config.json").exists() and not force:
        raise SyllabaryError(f"{target} holds a tokenizer; --force overwrites it")
    use_one_thread()
    from ..audio.manifests import collect
    from ..quantizers.kmeans import KMeansConfig, load_centroids
    from ..semantic.encoders import catalogue
    from ..semantic.units.fitting import choose, fit_units
    from ..semantic.units.tokenizer import UnitTokenizer

    name = name or target.name
    every = collect(inputs, split) if inputs else []
    items = choose(every, max_hours, excluded, seed) if inputs else []
    windows = {} if window is None else {"window_s": window, "overlap_s": min(4.0, window / 4)}
    speech = catalogue.find(encoder, _choice(layers, combine, weights), **windows).to(device)
    if phonetic:
        speech = _phonetic(speech, choose(every, None, excluded), seed)
    centroids = [load_centroids(source)] if source is not None else None
    if centroids is not None and not items:
        UnitTokenizer.of(speech, centroids, name).save_pretrained(target)
        size = tuple(centroids[0].shape)
        click.echo(f"{target}: {size[0]} units of {speech.description}; without IN, no sound")
        return
    config = KMeansConfig(clusters or 500, algorithm=algorithm, iterations=iterations, seed=seed)
    work = Path(cache) if cache else target.with_name(f".{target.name}.fitting")
    began = time.perf_counter()
    with _Shown() as shown:
        outcome = fit_units(
            speech, items, config, work,
            name=name, centroids=centroids, dtype=dtype, progress=shown,
        )  # fmt: skip
    outcome.tokenizer.save_pretrained(target)
    if not cache:
        shutil.rmtree(work)
    _say(outcome, target, time.perf_counter() - began)
    if outcome.failures:
        sys.exit(1)


def _phonetic(encoder: "SpeechEncoder", items: "Sequence[Utterance]", seed: int) -> "SpeechEncoder":
    """Return the encoder's phonetic directions; the phones are from forced alignment."""
    import torch

    from ..eval.unit_measures.alignment_cache import align_utterances
    from ..semantic.encoders.content import Content
    from ..semantic.encoders.overlapping import WindowedEncoder
    from ..semantic.encoders.phonetic import fit_phonetic

    if not isinstance(encoder, WindowedEncoder | Content):
        raise click.UsageError(
            f"--phonetic is for published models and content encoders, not {encoder.description}"
        )
    if len(encoder.dims) != 1:
        raise click.UsageError("--phonetic is of one group of features, not --combine each")
    told = [each for each in items if each.text and (each.language or "en").startswith("en")]
    count = min(_ALIGNED, len(told))
    # Names of their own: two folders may have files of one name.
    chosen = [
        replace(told[n * len(told) // count], name=PurePosixPath(str(n))) for n in range(count)
    ]
    found = align_utterances(chosen)
    if not found.found:
        why = next(iter(found.missing.values()), "there is none")
        raise SyllabaryError(f"--phonetic: no utterance with an English text can be aligned: {why}")
    click.echo(f"phones of {len(found.found)} of {count} utterances", err=True)

    def labelled() -> "Iterator[tuple[torch.Tensor, np.ndarray]]":
        rate = encoder.sample_rate / encoder.hop
        for item in chosen:
            if item.name in found.found:
                samples, _ = item.read(encoder.sample_rate, "mix")
                phones = found.found[item.name].labels(rate, -(-len(samples) // encoder.hop))
                yield torch.from_numpy(samples), phones

    if isinstance(encoder, Content):
        from ..training.content.phonetic import with_phonetic_directions

        return with_phonetic_directions(encoder, labelled(), seed=seed)
    return fit_phonetic(encoder, labelled())


def _choice(
    layers: tuple[int, ...] | None,
    combine: Literal["concatenate", "sum", "each"],
    weights: str | None,
) -> "LayerChoice | None":
    """Return the layers that the options select, or None without such options."""
    from ..semantic.encoders.layers import LayerChoice

    if layers is None:
        if weights or combine != "concatenate":
            raise click.UsageError("--combine and --weights are for several layers: say --layer")
        return None
    try:
        numbers = tuple(float(part) for part in weights.split(",")) if weights else ()
        return LayerChoice(layers, combine, numbers)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _say(outcome: "FitOutcome", target: Path, elapsed: float) -> None:
    sizes = " + ".join(map(str, outcome.tokenizer.config.codebook_sizes))
    click.echo(
        f"{target}: {sizes} units of {outcome.tokenizer.encoder.description}, on {outcome.frames} "
        f"frames, {hours(outcome.seconds)}, in {elapsed:.1f} s"
    )
    for inertia in outcome.inertias:
        click.echo(f"mean squared distance to the nearest centroid: {inertia:.6g}")
    for path, reason in outcome.failures[:_SHOWN_FAILURES]:
        click.echo(f"failed: {path}: {reason}", err=True)
    if outcome.failures:
        click.echo(f"{len(outcome.failures)} files could not be read and were left out", err=True)


class _Shown:
    """Report progress by a bar on stderr on a terminal, else by a line now and then."""

    def __enter__(self) -> Callable[["FitProgress"], None]:
        self.bar: Any = None
        self.last, self.stage = time.perf_counter(), ""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task("", total=None, detail="")
        return self.show

    def show(self, step: "FitProgress") -> None:
        if self.bar is not None:
            self.bar.update(
                self.task,
                description=step.stage,
                completed=step.done,
                total=step.total or None,
                detail=step.detail,
            )
            return
        now = time.perf_counter()
        if step.stage == self.stage and now - self.last < 30:
            return
        self.last, self.stage = now, step.stage
        click.echo(f"{step.stage}: {step.done} of {step.total or '?'}  {step.detail}", err=True)

    def __exit__(self, *failure: object) -> None:
        if self.bar is not None:
            self.bar.stop()
