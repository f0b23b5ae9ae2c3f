"""A `Bench` of a tokenizer and some waves, without a harness."""

from pathlib import Path, PurePosixPath

from syllabary.audio.manifests import Utterance
from syllabary.eval.studies.interface import Bench
from syllabary.eval.systems.tokenizers import TokenizerSystem


def bench_of(tokenizer, waves, folder=Path(), codebooks=None, seed=0, **fields):
    """Utterances are called 00, 01, …; `fields` gives lists of their other fields.

    Those of split `train` are no items.
    """
    count = f":{codebooks}" if codebooks else ""
    system = TokenizerSystem(f"{tokenizer.name}{count}", tokenizer)
    rate = system.sample_rate
    items, by_name = [], {}
    for number, wave in enumerate(waves):
        name = PurePosixPath(f"{number:02}")
        values = {key: value[number] for key, value in fields.items()}
        values.setdefault("duration_s", len(wave) / rate)
        items.append(Utterance(Path(name), name, **values))
        by_name[name] = wave
    chosen = [item for item in items if item.split != "train"]
    return Bench(
        system=system,
        items=chosen,
        everything=items,
        wave=lambda item: by_name[item.name],
        reconstruction=lambda item: system.reconstruct(by_name[item.name]).wave,
        tokens=lambda item: system.encode(by_name[item.name]),
        folder=folder,
        seed=seed,
    )


def values_of(findings):
    """By name."""
    names = [value.name for value in findings.values]
    assert len(names) == len(set(names))
    return {value.name: value.value for value in findings.values}


def curves_of(findings):
    names = [curve.name for curve in findings.curves]
    assert len(names) == len(set(names))
    assert all(len(curve.x) == len(curve.y) for curve in findings.curves)
    return {curve.name: curve for curve in findings.curves}
