"""The sizes of TS3-Codec in its paper, and a larger one from a talk by its authors.

No weights of these are published. `TS3Codec(PRESETS["ts3-x2"])` creates an untrained one, and
`syllabary train ts3-x2` trains one as the paper describes.

Where the paper leaves a choice, this module uses a window of 32 frames (the paper names 16 and 32)
and codes of 8 channels (8 and 16). The talk gives 1.6 billion parameters and 60.52 GMAC; width 2048
with twice the layers is close to both.
"""

from ..neural.layers.transformer import TransformerConfig
from ..neural.trunks.raw_frames import FrameConfig
from .tokenizer import CodebookConfig, TS3Config


def _preset(hop: int, bits: int, width: int = 1024, layers: int = 8) -> TS3Config:
    stack = TransformerConfig(width, layers, heads=width // 64, feed_forward=4 * width, window=32)
    # The weight grows with the codebook: 32 and 64, of which a quarter is the commitment loss.
    codebook = CodebookConfig(1 << bits, 8, commitment_weight=(1 << bits) / 8192)
    return TS3Config(FrameConfig(hop=hop, encoder=stack, decoder=stack), codebook)


PRESETS = {
    "ts3-x1": _preset(hop=320, bits=16),
    "ts3-x2": _preset(hop=320, bits=17),
    "ts3-x3": _preset(hop=400, bits=16),
    "ts3-x4": _preset(hop=400, bits=17),
    "ts3-1.6b": _preset(hop=400, bits=17, width=2048, layers=16),
}
