"""Bad input by the thousand: sound examples, spoilt in the ways in which inputs are spoilt. One seed, one sequence."""

from __future__ import annotations

from random import Random

TOKENS = (
    b"", b"\0", b"\xff\xfe", b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"18446744073709551616", b"9" * 400,
    b'""', b"[]", b"{}", b"[" * 300, b'{"a":' * 60, b"'", b'"', b"\\", b"\\ud800", b"\r\n\r\n", b"%00", b"%2F",
    b"../..", b"\xe2\x80\xae", b"\xed\xa0\x80", b"=", b";", b"#", b"2026-11-21T99:99:99Z", b"-9999-01-01T00:00:00Z",
    b"a" * 700,
)  # fmt: skip
LONGEST = 40_000


def spoil(chance: Random, sound: bytes) -> bytes:
    """A sound input with a few things wrong with it; now and then nothing, or nothing but noise."""
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(200))
    spoilt = bytearray(sound)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 8))):
        place = chance.randrange(len(spoilt) + 1)
        match chance.randrange(7):
            case 0 if spoilt:
                spoilt[place % len(spoilt)] ^= 1 << chance.randrange(8)
            case 1:
                del spoilt[place:]
            case 2:
                del spoilt[place : place + chance.randrange(1, 20)]
            case 3:
                spoilt[place:place] = chance.choice(TOKENS)
            case 4:
                spoilt[place : place + chance.randrange(12)] = chance.choice(TOKENS)
            case 5:
                spoilt[place:place] = spoilt[place : place + chance.randrange(200)]
            case _:
                spoilt[place:place] = chance.randbytes(chance.randrange(1, 9))
    return bytes(spoilt[:LONGEST])


def text_of(spoilt: bytes) -> str:
    """The same as text, in which any character may stand."""
    return spoilt.decode("utf-8", "surrogateescape" if len(spoilt) % 3 == 0 else "replace")
