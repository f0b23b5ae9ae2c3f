"""`python ranks_run.py CORPUS CACHE OUTPUT`: one rank of a run that `torchrun` started."""

import dataclasses
import sys
from pathlib import Path

import tiny
import torch

from syllabary.training import precision
from syllabary.training.loop import train
from syllabary.training.recipe import BalancerConfig


def recipe_without_noise(corpus):
    """Ranks draw dropout's numbers for themselves, so that it would tell them from one rank."""
    recipe = tiny.recipe(corpus, steps=8, balancer=BalancerConfig(fractions={"mel": 1.0}))
    # In float32, a code soon depends on the order of summation, and with it all that follows.
    model = tiny.TinyConfig(dropout=0.0, double=True)
    return dataclasses.replace(recipe, model=model, log_every=1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    # In bfloat16, Muon makes much of a last bit.
    precision.has_bfloat16 = lambda kind: False
    corpus, cache, output = map(Path, sys.argv[1:4])
    train(recipe_without_noise(corpus), output, device="cpu", cache=cache)
