"""`syllabary fit`: learn what turns speech into units from data, without training a network."""

import click

from .fit_bpe import bpe
from .fit_kmeans import kmeans

FITS: tuple[click.Command, ...] = (kmeans, bpe)


@click.group()
def fit() -> None:
    """Learn units and vocabularies from data."""


for command in FITS:
    fit.add_command(command)
