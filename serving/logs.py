"""Logs as JSON, one object a line on standard error, without secrets.

Events of the server are logged with `event`. What libraries log and warn of comes in the same form.
Fields that would hold a secret are not written, nor anything that looks like a bearer token:
libraries quote requests in their errors.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

_LOGGER = logging.getLogger("syllabary.serving")
_SECRET_FIELDS = re.compile(r"token$|authorization|secret|password|(^|_)key$", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"(bearer[ .]+)[A-Za-z0-9._~+/=-]+", re.IGNORECASE)
HIDDEN = "[hidden]"


def event(name: str, session: str | None = None, level: str = "info", **fields: Any) -> None:
    """Log an event.

    Args:
        name: what happened, in one word.
        session: id of the stream that it happened to.
        level: `debug`, `info`, `warning` or `error`.
        fields: JSON values; others are written as text.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    if _LOGGER.isEnabledFor(number):
        _LOGGER.log(number, "%s", name, extra={"session": session, "fields": fields})


class JSONFormatter(logging.Formatter):
    """Writes a log record as one line of JSON: `time`, `level`, `event`, `session`, and fields.

    A record of a library has `event` "log", its `logger` and its `message`.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
        }
        if record.name == _LOGGER.name:
            line["event"] = record.getMessage()
            if (session := getattr(record, "session", None)) is not None:
                line["session"] = session
            for name, value in getattr(record, "fields", {}).items():
                line.setdefault(name, HIDDEN if _SECRET_FIELDS.search(name) else value)
        else:
            line |= {"event": "log", "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = json.dumps(line, default=str, ensure_ascii=False)
        return _SECRET_TEXT.sub(rf"\1{HIDDEN}", text)


def set_up(level: str) -> None:
    """Log as JSON on standard error, from this level on; libraries from `warning` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    _LOGGER.setLevel(level.upper())
    logging.captureWarnings(True)
