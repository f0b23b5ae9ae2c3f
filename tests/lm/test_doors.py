"""What is public, and that it loads no torch before it is needed."""

import subprocess
import sys

import pytest

import syllabary.lm as lm


def test_every_name_has_a_home():
    assert sorted(lm.__all__) == dir(lm)
    assert all(getattr(lm, name) is not None for name in lm.__all__)
    with pytest.raises(AttributeError):
        _ = lm.nonsense


def test_torch_comes_with_tensors_only():
    """And with what builds data sets, or reads them as batches of tensors."""
    check = """
import sys, numpy as np
import syllabary.lm as lm
data = ("DatasetSettings", "EXPORTS", "build_dataset", "export", "open_dataset", "reader")
data += ("AlignedWord", "Filters", "Item", "Splits", "StoredDataset", "write_dataset")
[getattr(lm, name) for name in lm.__all__ if name not in data]
pattern = lm.pattern("delay", [8, 8])
assert pattern.restore(pattern.lay(np.zeros((2, 3), int))[0]).shape == (2, 3)
pattern.stream().push(np.array([8, 8]))
lm.FixedRatio((100, 200)).join([1], [100])
assert not {"torch", "tokenizers", "jinja2", "scipy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", check], check=True)
