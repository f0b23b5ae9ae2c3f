"""Find the links of a chained Ogg file: concatenated streams, each a complete file.

Live streams and `cat a.ogg b.ogg` produce them. libsndfile reads only the first link.
"""

from typing import Any

_CAPTURE = b"OggS"
_HEAD = 27  # bytes of a page header before its segment table


def find_links(data: Any) -> list[tuple[int, int]]:
    """Return the byte range of each link.

    Args:
        data: the whole file; may be a memory map.
    """
    starts: list[int] = []
    was_first = False
    at = data.find(_CAPTURE)
    while at >= 0:
        head = data[at : at + _HEAD]
        if len(head) < _HEAD:
            break
        # With several multiplexed streams, their first pages form a group.
        is_first = bool(head[5] & 2)
        if is_first and not was_first:
            starts.append(at)
        was_first = is_first
        table = data[at + _HEAD : at + _HEAD + head[26]]
        following = at + _HEAD + head[26] + sum(table)
        at = following if data[following : following + 4] == _CAPTURE else -1
        if at < 0 and following < len(data):
            at = data.find(_CAPTURE, following)  # skip foreign bytes between pages
    return list(zip(starts, [*starts[1:], len(data)], strict=True))
