"""`ServerParts`: what connections and requests use of the server that they belong to."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .config import Config
    from .engine import Engine
    from .metrics import Metrics
    from .protocol import GoAway
    from .resume import Keys
    from .security import Security


class ServerParts(Protocol):
    """Attributes of `server.Server`."""

    config: "Config"
    engine: "Engine"
    metrics: "Metrics"
    security: "Security"
    keys: "Keys"
    url: str
    goaway: "GoAway | None"
