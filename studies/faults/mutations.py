"""Random damage to the bytes of a file, reproducible from a seed.

for damaged in itertools.islice(mutations(path.read_bytes(), seed=3), 1000):
...
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)


def mutations(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield damaged copies of `data` without end: bits flipped, bytes set, parts cut, doubled, inserted or zeroed."""
    rng = random.Random(seed)
    while True:
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            _damage(damaged, rng)
        if damaged != data:
            yield bytes(damaged)


def resealed(data: bytes) -> bytes:
    """Return a PNG with its checksums corrected, so that damage reaches the code behind their check."""
    sealed, start = bytearray(data), 8
    while start + 12 <= len(sealed):
        length = int.from_bytes(sealed[start : start + 4], "big")
        end = start + 8 + length
        if end + 4 > len(sealed):
            break
        sealed[end : end + 4] = zlib.crc32(sealed[start + 4 : end]).to_bytes(4, "big")
        start = end + 4
    return bytes(sealed)


def _damage(data: bytearray, rng: random.Random) -> None:
    # Half of all places are in the first or last 64 bytes, as headers and footers matter most.
    size = len(data)
    place = rng.choice((rng.randrange(size + 1), rng.randrange(size + 1), min(size, rng.randrange(64))))
    place = max(0, size - rng.randrange(1, 65)) if rng.random() < 0.2 else place
    length = min(size - place, rng.choice((1, 2, 4, 8, rng.randrange(1, size // 4 + 2))))
    part = slice(place, place + length)
    kind = rng.choice(("flip", "flip", "set", "set", "number", "cut", "remove", "insert", "double", "zero"))
    if kind == "cut":
        del data[place:]
    elif kind == "remove":
        del data[part]
    elif kind == "insert":
        data[place:place] = rng.randbytes(max(1, length))
    elif kind == "double":
        data[place:place] = data[part]
    elif kind == "zero":
        data[part] = bytes(length)
    elif kind == "number":  # an implausible length or offset
        number = rng.choice((2**31 - 1, 2**32 - 1, 2**31, 2**24, size, size // 2))
        data[place : place + 4] = number.to_bytes(4, rng.choice(("little", "big")))
    elif place < size:
        data[place] = data[place] ^ (1 << rng.randrange(8)) if kind == "flip" else rng.choice(_EXTREMES)
