"""Codecs: the tokenizer interface, `Tokens`, the `.syl` container, streaming, and all families."""

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .dmel.config import DMelConfig
    from .dmel.tokenizer import DMel
    from .fsq.tokenizer import FSQCodec, FSQConfig
    from .neural.onnx.export import export_onnx
    from .neural.onnx.steps import OnnxSteps
    from .rvq.tokenizer import RVQCodec, RVQConfig
    from .ts3.presets import PRESETS as TS3_PRESETS
    from .ts3.tokenizer import TS3Codec, TS3Config
    from .windowed import StatelessDecoder, WindowEncoder

__all__ = [
    "TS3_PRESETS",
    "DMel",
    "DMelConfig",
    "FSQCodec",
    "FSQConfig",
    "OnnxSteps",
    "RVQCodec",
    "RVQConfig",
    "StatelessDecoder",
    "TS3Codec",
    "TS3Config",
    "WindowEncoder",
    "export_onnx",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "DMel": "syllabary.codecs.dmel.tokenizer",
        "DMelConfig": "syllabary.codecs.dmel.config",
        "FSQCodec": "syllabary.codecs.fsq.tokenizer",
        "FSQConfig": "syllabary.codecs.fsq.tokenizer",
        "OnnxSteps": "syllabary.codecs.neural.onnx.steps",
        "RVQCodec": "syllabary.codecs.rvq.tokenizer",
        "RVQConfig": "syllabary.codecs.rvq.tokenizer",
        "StatelessDecoder": "syllabary.codecs.windowed",
        "TS3Codec": "syllabary.codecs.ts3.tokenizer",
        "TS3Config": "syllabary.codecs.ts3.tokenizer",
        "TS3_PRESETS": "syllabary.codecs.ts3.presets:PRESETS",
        "WindowEncoder": "syllabary.codecs.windowed",
        "export_onnx": "syllabary.codecs.neural.onnx.export",
    },
)
