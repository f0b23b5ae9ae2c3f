"""Packets of an Ogg stream (RFC 3533), for counting a codec's bits without the container."""


def ogg_packets(data: bytes) -> list[int]:
    """Return the sizes of the packets of a stream, in bytes.

    Raises:
        ValueError: a page is misplaced or truncated.
    """
    sizes: list[int] = []
    size = at = 0
    while at < len(data):
        if data[at : at + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {at}")
        count = data[at + 26] if at + 26 < len(data) else 0
        lacing = data[at + 27 : at + 27 + count]
        end = at + 27 + count + sum(lacing)
        if end > len(data):
            raise ValueError(f"the Ogg page at byte {at} is cut short")
        for part in lacing:
            size += part
            if part < 255:
                sizes.append(size)
                size = 0
        at = end
    return sizes
