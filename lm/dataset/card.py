"""The data card: README.md with a table and plots, as the Hugging Face hub shows it."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ...filesystem import replacing
from .bars import bar_chart
from .format import (
    CARD_NAME,
    DATA_FOLDER,
    DROPS_NAME,
    FAILURES_NAME,
    PLOTS_FOLDER,
    Header,
    Shard,
)
from .statistics import EDGES, Statistics

_SHOWN_SPEAKERS = 5
_SHOWN_LANGUAGES = 20
_SHOWN_CODEBOOKS = 32
_TITLES = {
    "duration": ("Durations", "s"),
    "level": ("Levels (root mean square)", "dB over full scale"),
    "snr": ("Signal over noise", "dB"),
    "speech": ("Share of speech", ""),
    "characters": ("Characters of text", "a second"),
}


def write_card(
    folder: Path,
    header: Header,
    shards: Sequence[Shard],
    digest: str,
    facts: dict[str, Any],
    statistics: Statistics,
) -> None:
    """Write README.md and the plots that it shows."""
    plots = list(_plots(statistics))
    (folder / PLOTS_FOLDER).mkdir(exist_ok=True)
    for name, _, picture in plots:
        with replacing(folder / PLOTS_FOLDER / name) as temporary:
            temporary.write_text(picture, encoding="utf-8")
    lines = [
        *_front_matter(shards, statistics),
        f"# Speech as tokens of {_plain(header.spec.tokenizer)}",
        "",
        *_about(header, digest),
        *_split_table(header, shards, statistics),
        *_left_out(facts),
        *_speakers(statistics),
        *_languages(statistics),
        *_codebooks(header, statistics),
        *(line for file, title, _ in plots for line in (f"![{title}]({PLOTS_FOLDER}/{file})", "")),
        *_settings(facts),
        *_use(header),
    ]
    with replacing(folder / CARD_NAME) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _front_matter(shards: Sequence[Shard], statistics: Statistics) -> list[str]:
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in sorted({shard.split for shard in shards}):
        lines += [f"  - split: {_yaml(_hub_split(split))}",
                  f"    path: {_yaml(f'{DATA_FOLDER}/{split}-*.parquet')}"]  # fmt: skip
    known = sorted(name for name in statistics.languages if _is_code(name))
    if known:
        lines += ["language:", *(f"- {_yaml(name)}" for name in known)]
    lines += ["tags:", "- speech", "- audio-tokens", "- syllabary"]
    lines += ["size_categories:", f"- {_size_category(sum(shard.items for shard in shards))}"]
    return [*lines, "---", ""]


def _yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _hub_split(split: str) -> str:
    """Names of splits on the hub consist of letters, digits, `_` and `.`."""
    return split.replace("-", "_")


def _is_code(language: str) -> bool:
    return language.isascii() and language.isalpha() and language.islower() and len(language) <= 3


def _size_category(items: int) -> str:
    steps = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]
    steps += [(10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B")]
    return next((name for most, name in steps if items < most), "1B<n<10B")


def _about(header: Header, digest: str) -> list[str]:
    spec = header.spec
    runs = groupby(spec.codebook_sizes[: header.num_codebooks])
    sizes = ", ".join(f"{len(list(run))} × {size:,}" for size, run in runs)
    return [
        f"Made by `{spec.tokenizer}` (digest `{spec.digest[:16]}`): {float(spec.frame_rate):g} "
        f"frames a second; codebooks and their codes: {sizes}.",
        "",
        f"Digest of the data set: `{digest}`. It depends on the sources, the tokenizer and the "
        "settings only: `syllabary dataset verify` encodes a sample again and compares.",
        "",
    ]


def _split_table(header: Header, shards: Sequence[Shard], statistics: Statistics) -> list[str]:
    lines = [
        "| split | items | hours | frames | tokens | speakers | with text | with word times "
        "| shards | bytes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    splits = sorted(statistics.splits)
    for split in splits:
        mine = [shard for shard in shards if shard.split == split]
        lines.append(_row(split, header, mine, [split], statistics, statistics.speakers_of(split)))
    if len(splits) > 1:
        lines.append(_row("all", header, shards, splits, statistics, len(statistics.speakers)))
    return [*lines, ""]


def _row(
    name: str,
    header: Header,
    shards: Sequence[Shard],
    splits: Sequence[str],
    statistics: Statistics,
    speakers: int,
) -> str:
    def total(what: str) -> int:
        return sum(statistics.splits[split][what] for split in splits)

    hours = total("samples") / header.spec.sample_rate / 3600
    frames = total("frames")
    cells = [
        name, f"{total('items'):,}", f"{hours:,.3f}", f"{frames:,}",
        f"{frames * header.num_codebooks:,}", f"{speakers:,}", f"{total('with text'):,}",
        f"{total('with words'):,}", str(len(shards)), f"{sum(s.bytes for s in shards):,}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _left_out(facts: dict[str, Any]) -> list[str]:
    planned, failures, drops = facts["plan"]["planned"], facts["failures"], facts["drops"]
    lines = [f"Of {planned:,} utterances in the list, {failures:,} failed and "
             f"{sum(drops.values()):,} were left out."]  # fmt: skip
    if failures:
        lines[0] += f" Failures with their reasons: `{FAILURES_NAME}`."
    if drops:
        lines[0] += f" What was left out: `{DROPS_NAME}`."
        lines += ["", "| left out because of | utterances |", "| --- | --- |"]
        lines += [f"| {_plain(reason)} | {count:,} |" for reason, count in drops.items()]
    if facts["unaligned"]:
        lines += ["", f"{facts['unaligned']:,} items have no word times, since they could not be "
                  "aligned."]  # fmt: skip
    return [*lines, ""]


def _speakers(statistics: Statistics) -> list[str]:
    if not statistics.speakers:
        return ["Speakers are not known.", ""]
    several = statistics.speakers_in_several()
    if not several:
        return [f"{len(statistics.speakers):,} speakers; none is in two splits.", ""]
    names = ", ".join(_plain(name) for name in several[:_SHOWN_SPEAKERS])
    more = " and more" if len(several) > _SHOWN_SPEAKERS else ""
    return [
        f"**{len(several):,} of {len(statistics.speakers):,} speakers are in several splits**: "
        f"{names}{more}.",
        "",
    ]


def _languages(statistics: Statistics) -> list[str]:
    found = statistics.languages
    if set(found) <= {"not known"}:
        return []
    named = found.most_common(_SHOWN_LANGUAGES)
    listed = ", ".join(f"{_plain(name)} {count:,}" for name, count in sorted(named))
    return [f"Languages: {listed}.", ""]


def _codebooks(header: Header, statistics: Statistics) -> list[str]:
    usage = statistics.code_usage()
    if not usage or len(usage) > _SHOWN_CODEBOOKS:
        return []
    lines = ["| codebook | codes | in use | entropy in bits |", "| --- | --- | --- | --- |"]
    for number, (used, entropy) in enumerate(usage):
        size = header.spec.codebook_sizes[number]
        lines.append(f"| {number} | {size:,} | {used / size:.1%} | {entropy:.2f} |")
    return [*lines, ""]


def _plots(statistics: Statistics) -> Iterator[tuple[str, str, str]]:
    """File name, title and picture of each histogram that has values."""
    for name, counts in statistics.histograms.items():
        if not counts.sum():
            continue
        title, unit = _TITLES[name]
        edges = EDGES[name]
        labels = [_label(low, high) for low, high in pairwise(edges)]
        used = np.flatnonzero(counts)
        span = slice(int(used[0]), int(used[-1]) + 1)
        picture = bar_chart(
            f"{title}: utterances", labels[span], counts[span].tolist(), unit or "share"
        )
        yield f"{name}.svg", title, picture


def _label(low: float, high: float) -> str:
    if np.isinf(high):
        return f"≥ {low:g}"
    return f"< {high:g}" if np.isinf(low) or low == -120 else f"{low:g}–{min(high, 1e9):.3g}"


def _settings(facts: dict[str, Any]) -> list[str]:
    settings = facts["plan"]["settings"]
    lines = ["| setting | value |", "| --- | --- |"]
    for name in ("channels", "resampler", "filters", "split", "splits", "aligner", "options"):
        value = settings.get(name)
        if value not in (None, {}, []):
            lines.append(f"| {name} | {_plain(str(value))} |")
    return [*lines, ""]


def _use(header: Header) -> list[str]:
    return [
        "Columns: `codes` (a list of codes for each codebook), `id`, `text`, `speaker`, "
        "`language`, `split`, `num_samples`, `duration_s`, `durations` (frames of merged units), "
        "`alignment` (words and their times), `text_ids`, `source` with `source_sha256`.",
        "",
        "```python",
        "from syllabary import lm",
        "",
        "dataset = lm.open_dataset(FOLDER)",
        "item = dataset[0]",
        "tokens = item.tokens(dataset.spec)",
        "```",
    ]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in a table, too."""
    shown = "".join(f"\\{sign}" if sign in r"\`*_{}[]<>|#" else sign for sign in text)
    return " ".join(shown.split())
