"""The paper's sizes of TS3-Codec, and a larger one of a talk by its authors.

There are no public weights of any of them. `TS3Codec(PRESETS["ts3-x2"])` makes an untrained one,
and `syllabary train ts3-x2` trains one as the paper says.

What the paper leaves open is chosen here: a window of 32 frames (it names 16 and 32) and codes of 8
channels (8 and 16). The talk says 1.6 billion parameters and 60.52 GMAC; width 2048 with twice the
layers comes close to both.
"""

from ..neural.layers.transformer import TransformerConfig
from ..neural.trunks.raw_frames import FrameConfig
from .tokenizer import CodebookConfig, TS3Config


def _preset(hop: int, bits: int, width: int = 1024, layers: int = 8) -> TS3Config:
    stack = TransformerConfig(width, layers, heads=width // 64, feed_forward=4 * width, window=32)
    # The weight grows with the codebook: 32 and 64, of which a quarter pulls latents to codes.
    codebook = CodebookConfig(1 << bits, 8, commitment_weight=(1 << bits) / 8192)
    return TS3Config(FrameConfig(hop=hop, encoder=stack, decoder=stack), codebook)


PRESETS = {
    "ts3-x1": _preset(hop=320, bits=16),
    "ts3-x2": _preset(hop=320, bits=17),
    "ts3-x3": _preset(hop=400, bits=16),
    "ts3-x4": _preset(hop=400, bits=17),
    "ts3-1.6b": _preset(hop=400, bits=17, width=2048, layers=16),
}
