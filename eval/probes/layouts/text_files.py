"""Reading of the text files of data sets."""

from pathlib import Path

from ....errors import ManifestError


def lines_of(path: Path) -> list[str]:
    """Return the lines that are not empty.

    Raises:
        ManifestError: it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from None
    # Not splitlines, which splits a text at U+2028.
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]
