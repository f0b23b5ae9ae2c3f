"""`TokenizerModule`: a tokenizer as a module with weights, which is saved, hashed and copied.

Checkpoints, digests and pickles need no more of a tokenizer than this; `AudioTokenizer` adds
encoding and decoding.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..plain_torch import PlainModule
from .spec import TokenizerSpec

#: Licence of weights whose `config.json` states none.
UNSTATED = "not stated"


class TokenizerModule(PlainModule):
    """A configuration, weights and a name, and what they say about the tokens.

    A subclass sets `family`, its name in a saved `config.json`, and `Config`, a frozen dataclass
    whose fields are JSON values. Its constructor takes the two arguments of this one.

    Args:
        config: an instance of `Config`.
        name: the tokenizer's name, part of every token spec; default: the family's.
    """

    family: ClassVar[str]
    Config: ClassVar[type]

    def __init__(self, config: Any, name: str | None = None) -> None:
        super().__init__()
        self.config = config
        self.name = name or self.family
        self._anchor: Tensor  # gives the module's device without a walk over it
        self.register_buffer("_anchor", torch.empty(0), persistent=False)
        #: The name and the digest of the weights that it belongs to: see `keep_name`.
        self._named: tuple[str, str] | None = None
        #: Licence of the weights, as its `config.json` states it.
        self.license = UNSTATED
        #: What keeps its codes from being useful, such as codebooks that have not started to learn;
        #: loading it warns of this. Empty for a finished tokenizer.
        self.caution = ""

    @abstractmethod
    def describe(self) -> TokenizerSpec:
        """Return the tokenizer's spec; `token_spec` creates its `tokens` field."""

    def token_tensors(self) -> dict[str, Tensor]:
        """Return the tensors that determine what the codes mean; the digest covers them."""
        return self.state_dict()

    @abstractmethod
    def token_config(self) -> dict[str, Any]:
        """Return the configuration fields that determine what the codes mean, as JSON values."""

    @property
    @abstractmethod
    def spec(self) -> TokenizerSpec:
        """The tokenizer's spec with its current weights."""

    @abstractmethod
    def keep_name(self) -> None:
        """Bind the name to the current weights; with other weights, it gets a suffix."""

    @abstractmethod
    def __getstate__(self) -> dict[str, Any]:
        """Return weights and configuration, without what is derived from the weights."""

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self._anchor.device
