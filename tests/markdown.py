"""Code blocks of Markdown pages, for the tests that run them."""

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

_NOT_RUN = re.compile(r"<!-- not run: (.*?) -->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block, fenced or indented, wherever it stands.

    Attributes:
        page: its file.
        line: where it begins, from 1.
        language: what its fence says; empty if nothing.
        text: the code.
        not_run: why a test can't run it: the reason in the comment ``<!-- not run: … -->`` right
            before the block. None: it runs.
    """

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def code_blocks(page: Path) -> list[Block]:
    """All code blocks of a page, in order."""
    found = []
    reason = None
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            line = token.map[0] + 1
            found.append(Block(page, line, token.info.strip(), token.content, reason))
        marked = _NOT_RUN.fullmatch(token.content.strip()) if token.type == "html_block" else None
        reason = " ".join(marked[1].split()) if marked else None
    return found


def blocks(page: Path, language: str) -> list[str]:
    """The code of a page in one language, block by block."""
    return [block.text for block in code_blocks(page) if block.language == language]
