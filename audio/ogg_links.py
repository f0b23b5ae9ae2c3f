"""The links of a chained Ogg file: streams one behind another, each a file of its own.

Live streams and `cat a.ogg b.ogg` make them. libsndfile reads the first one.
"""

from typing import Any

_CAPTURE = b"OggS"
_HEAD = 27  # bytes of a page's head, before its table of segments


def find_links(data: Any) -> list[tuple[int, int]]:
    """The first byte of each link and that behind its last one.

    Args:
        data: all of the file; a memory map will do.
    """
    starts: list[int] = []
    was_first = False
    at = data.find(_CAPTURE)
    while at >= 0:
        head = data[at : at + _HEAD]
        if len(head) < _HEAD:
            break
        # Pages that begin a stream come together where several streams run side by side.
        is_first = bool(head[5] & 2)
        if is_first and not was_first:
            starts.append(at)
        was_first = is_first
        table = data[at + _HEAD : at + _HEAD + head[26]]
        following = at + _HEAD + head[26] + sum(table)
        at = following if data[following : following + 4] == _CAPTURE else -1
        if at < 0 and following < len(data):
            at = data.find(_CAPTURE, following)  # something between the pages
    return list(zip(starts, [*starts[1:], len(data)], strict=True))
