"""A codec that runs on the CPU as codecs do on a GPU."""

from syllabary.codecs.neural.running import TILE
from syllabary.codecs.rvq.tokenizer import RVQCodec


class InTiles(RVQCodec):
    """As on a GPU: PyTorch's networks, in tiles."""

    family = "rvq-in-tiles"

    def __init__(self, config, name=None):
        super().__init__(config, name)
        self._frame_decoder = None

    def _running_encoder(self):
        return self.prepared(self._exact_encoder), TILE
