"""The browser page, and the headers it is served with.

Its policy names the page's own script and style by their hashes, so that nothing else runs in it;
worklets of its script come from a blob.
"""

import base64
import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

_PATH = Path(__file__).with_name("page.html")


@cache
def page() -> tuple[str, Mapping[str, str]]:
    """Return the page and its headers."""
    text = _PATH.read_text(encoding="utf-8")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes(text, 'script')} blob:",
            f"style-src {_hashes(text, 'style')}",
            "worker-src blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'self'",
        ]
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "Permissions-Policy": "microphone=(self)",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    return text, headers


def _hashes(text: str, element: str) -> str:
    found = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    digests = (base64.b64encode(sha256(part.encode()).digest()).decode() for part in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
