"""The chain of the pages of a TIFF, each of which says where the next one is: it must come to an end."""

import os
import struct


def check_chain(path: str, start: bytes) -> None:
    """Raises an `OSError` where the pages of a TIFF are chained in a circle, which tifffile would follow for ever.

    Args:
      path: of the file.
      start: its first bytes.
    """
    order, big = "<" if start[:2] == b"II" else ">", start[2:4] in (b"+\0", b"\0+")
    number, place, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
    header = start[8:16] if big else start[4:8]
    size, seen = os.path.getsize(path), set()
    with open(path, "rb", buffering=0) as file:
        while len(header) == struct.calcsize(place):
            (offset,) = struct.unpack(order + place, header)
            if not offset:
                return
            if offset in seen:
                raise OSError("its pages are chained in a circle")
            seen.add(offset)
            file.seek(min(offset, size))
            count = file.read(struct.calcsize(number))
            if len(count) < struct.calcsize(number):
                return  # cut short, as the reader will find
            file.seek(min(entry * struct.unpack(order + number, count)[0], size), 1)
            header = file.read(struct.calcsize(place))
