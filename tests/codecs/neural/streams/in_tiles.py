"""A codec that runs on the CPU as codecs do on a GPU."""

from syllabary.codecs.neural.streams.decoding import TILE
from syllabary.codecs.rvq.tokenizer import RVQCodec


class InTiles(RVQCodec):
    """As on a GPU: PyTorch's networks, in tiles."""

    family = "rvq-in-tiles"

    def _running_encoder(self):
        return self.prepared(self._exact_encoder), TILE

    def _batches_tiles(self, rows):
        return rows > 1

    def _running_decoder(self):
        return self.prepared(self._still_decoder), None
