"""`syllabary fit`: fit units and vocabularies to data, without training a network."""

import click

from .fit_bpe import bpe
from .fit_kmeans import kmeans

FITS: tuple[click.Command, ...] = (kmeans, bpe)


@click.group()
def fit() -> None:
    """Fit units and vocabularies to data."""


for command in FITS:
    fit.add_command(command)
