"""Lines of the text files that data sets come with."""

from pathlib import Path

from ....errors import ManifestError


def lines_of(path: Path) -> list[str]:
    """Its lines that are not empty.

    Raises:
        ManifestError: it can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {error}") from None
    # Not splitlines, which takes U+2028 in a text for the end of a line.
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]
