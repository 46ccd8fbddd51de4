"""A name for an account without one, which initdb requires: as in a container with an arbitrary user id.

initdb looks up its account's name, although it is given the name of the database's superuser, and stops without one.
It is run with a library in front of the C library that answers this one question, ``getpwuid``. The library is so small
that it is written here, as an ELF shared object (elf(5)) in memory; the server itself runs without it.
"""

from __future__ import annotations

import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from imaging.errors import StoreError

#: Name given to the account.
NAME: Final = "nirflow"
#: By machine: its number in the header, and that of its relocation of an address relative to the library.
_MACHINES: Final = {"x86_64": (62, 8), "aarch64": (183, 1027)}
#: A page of any of these machines, bytes.
_PAGE: Final = 0x10000
_SYMBOL: Final = b"getpwuid"
# Structures of elf(5) for 64 bits, little-endian.
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_SYM: Final = struct.Struct("<IBBHQQ")
_RELA: Final = struct.Struct("<QQq")
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_READ, _WRITE, _EXECUTE = 4, 2, 1


@contextmanager
def naming_library() -> Iterator[int]:
    """Yield a descriptor of the library in memory, for ``LD_PRELOAD=/proc/self/fd/NUMBER``.

    Raises
    ------
    StoreError
        If this machine is of another kind.
    """
    if platform.machine() not in _MACHINES:
        raise StoreError(
            f"The embedded PostgreSQL requires an account with a name, and the user id {os.geteuid()} has none.",
            remedy="Run nirflow as an account in /etc/passwd, or set NIRFLOW_DATABASE_URL to a server.",
        )
    descriptor = os.memfd_create("nirflow-account", 0)
    try:
        os.write(descriptor, library(platform.machine(), os.geteuid(), os.getegid()))
        yield descriptor
    finally:
        os.close(descriptor)


def library(machine: str, uid: int, gid: int) -> bytes:
    """Return a shared object whose ``getpwuid`` returns an account with this user id and group id, and `NAME`."""
    number, relative = _MACHINES[machine]
    # The first page is read and executed: headers, symbols, names, code. The second is written by the loader.
    names = b"\0" + _SYMBOL + b"\0"
    texts = [NAME, "x", "", "/", "/bin/sh"]  # name, password, comment, home, shell
    parts = {
        "segments": _SEGMENT.size * 4,
        "hash": 24,
        "symbols": 2 * _SYM.size,
        "names": len(names),
        "code": 16,
    }
    at, place = {}, _HEADER.size
    for part, size in parts.items():
        at[part] = place
        place += -(-size // 16) * 16
    strings, account = [], _PAGE + 0x200
    first = account + 64
    content = b""
    for text in texts:
        strings.append(first + len(content))
        content += text.encode() + b"\0"
    # struct passwd of 64-bit Linux: its pointers are filled by the loader, which knows where it put the library.
    record = struct.pack("<QQIIQQQ", 0, 0, uid, gid, 0, 0, 0)
    moves = b"".join(
        _RELA.pack(account + offset, relative, target)
        for offset, target in zip((0, 8, 24, 32, 40), strings, strict=True)
    )
    relocations = _PAGE + 0x100
    entries = {4: at["hash"], 5: at["names"], 6: at["symbols"], 10: len(names), 11: _SYM.size}
    entries |= {7: relocations, 8: len(moves), 9: _RELA.size, 0: 0}
    dynamic = b"".join(struct.pack("<qQ", tag, value) for tag, value in entries.items())
    written = dynamic.ljust(0x100, b"\0") + moves.ljust(0x100, b"\0") + record.ljust(64, b"\0") + content
    segments = [
        (_LOAD, _READ | _EXECUTE, 0, place),
        (_LOAD, _READ | _WRITE, _PAGE, len(written)),
        (_DYNAMIC, _READ | _WRITE, _PAGE, len(dynamic)),
        (_STACK, _READ | _WRITE, 0, 0),
    ]
    head = _HEADER.pack(
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 3, number, 1, 0, _HEADER.size, 0, 0, _HEADER.size, _SEGMENT.size,
        len(segments), 64, 0, 0,
    )  # fmt: skip
    out = bytearray(_PAGE)
    out[: len(head)] = head
    for n, (kind, flags, where, size) in enumerate(segments):
        step = _PAGE if kind == _LOAD else 8
        _SEGMENT.pack_into(
            out, at["segments"] + n * _SEGMENT.size, kind, flags, where, where, where, size, size, step
        )
    struct.pack_into("<6I", out, at["hash"], 1, 2, 1, 0, 0, 0)
    _SYM.pack_into(out, at["symbols"] + _SYM.size, 1, 0x12, 0, 1, at["code"], 16)
    out[at["names"] : at["names"] + len(names)] = names
    code = _code(machine, account - at["code"])
    out[at["code"] : at["code"] + len(code)] = code
    return bytes(out) + written


def _code(machine: str, distance: int) -> bytes:
    """Return a function that returns the address at a distance from its first byte."""
    if machine == "x86_64":
        return b"\x48\x8d\x05" + struct.pack("<i", distance - 7) + b"\xc3"  # lea rax, [rip + distance]; ret
    adr = 0x10000000 | (distance & 3) << 29 | (distance >> 2 & 0x7FFFF) << 5  # adr x0, distance
    return struct.pack("<II", adr, 0xD65F03C0)  # ret
