"""Our patterns beside audiocraft's algorithm, as the benchmark restates it."""

import sys

import pytest
import torch

from syllabary.lm import patterns as ours

from ..conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import patterns


@pytest.mark.parametrize("frames", [1, 2, 7])
@pytest.mark.parametrize(
    ("kind", "pattern", "settings"),
    [
        ("parallel", ours.Parallel((50,) * 3), {}),
        ("delay", ours.Delay((50,) * 3), {}),
        ("delay", ours.Delay((50,) * 3, delays=(0, 0, 4)), {"delays": [0, 0, 4]}),
        ("flatten", ours.Flatten((50,) * 3, streams_of="each", start=1), {}),
        ("flatten", ours.Flatten((50,) * 3, groups=(0, 1, 1), start=1), {"groups": [0, 1, 1]}),
        ("coarse-first", ours.CoarseFirst((50,) * 3), {}),
        ("coarse-first", ours.CoarseFirst((50,) * 3, delays=(0, 2)), {"delays": [0, 2]}),
        ("musiclm", ours.MusicLM((50,) * 3), {}),
    ],
)
def test_equal_to_the_published_algorithm(kind, pattern, settings, frames):
    codes = torch.randint(0, 50, (2, 3, frames), generator=torch.Generator().manual_seed(frames))
    published = patterns.Published(patterns.layout(kind, 3, frames, **settings), 3, frames)
    theirs, mask = published.lay(codes, 50)
    steps, my_mask = pattern.lay(codes)
    assert patterns.same(kind, steps, theirs)
    if kind != "musiclm":
        assert torch.equal(my_mask, mask.expand_as(my_mask))
    assert torch.equal(published.restore(theirs, 50), pattern.restore(steps))


def test_the_whole_run(capsys):
    patterns.main(["--frames", "6", "--batch", "2", "--rounds", "1", "--codebooks", "3"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == [
        "| parallel", "| delay", "| flatten", "| coarse-first", "| musiclm",
    ]  # fmt: skip
