"""Mutated raw files in declared classes; a mutation is made again by its number."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults.edit import RawFits, load

#: The seed of all mutations; with the number it gives the bytes.
SEED: Final = 20131121
#: Cards of a raw frame that no reduction can do without, and others; both are mutated.
_CARD = 80
#: Pixels of the narrowest area that is not read out.
_CHANNEL: Final = 40

Rng = np.random.Generator
#: A mutation changes the file in place and returns what it did; or returns other bytes as well.
Change = Callable[[Rng, RawFits], "str | tuple[str, bytes]"]


@dataclass(frozen=True)
class MutationClass:
    """A class of mutations.

    Attributes
    ----------
    name
        What goes wrong.
    change
        Make one.
    seen_at_once
        The examination of the file alone has to find it. Otherwise the reduction has to: the frame is unlike
        its peers, or does not matter.
    suffix
        Added to the file's name.
    """

    name: str
    change: Change
    seen_at_once: bool = False
    suffix: str = ""


@dataclass(frozen=True)
class Mutation:
    """A mutated file: its number, class, the frame that it replaces, its bytes, and what was done."""

    number: int
    kind: MutationClass
    base: Path
    content: bytes
    done: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"{self.base.name}{self.kind.suffix}"

    def write(self, folder: Path) -> Path:
        """Put the mutated file in the place of the frame, or of nothing."""
        (folder / self.base.name).unlink(missing_ok=True)
        path = folder / self.name
        path.write_bytes(self.content)
        return path


def mutation(number: int, bases: Sequence[Path]) -> Mutation:
    """Return a mutation by its number; ``bases`` are the raw frames of the simulated night, sorted."""
    kind = CLASSES[number % len(CLASSES)]
    turn = number // len(CLASSES)
    base = bases[(turn * 5 + number * 3) % len(bases)]
    raw = load(base)
    done = kind.change(np.random.default_rng([SEED, number]), raw)
    text, content = done if isinstance(done, tuple) else (done, raw.content())
    return Mutation(number, kind, base, content, text)


# Files


def _truncated(rng: Rng, raw: RawFits) -> tuple[str, bytes]:
    content = raw.content()
    # The last block may end in padding, which nobody misses.
    at = int(rng.integers(1, len(content) - 2880))
    return f"cut after {at} of {len(content)} bytes", content[:at]


def _packed_and_cut(rng: Rng, raw: RawFits) -> tuple[str, bytes]:
    content = gzip.compress(raw.content(), 1)
    at = int(rng.integers(20, len(content) - 8))
    return f"gzip, cut after {at} of {len(content)} bytes", content[:at]


def _lost_block(rng: Rng, raw: RawFits) -> tuple[str, bytes]:
    content = bytearray(raw.content())
    first = len(content) - len(raw.hdus[1].data)
    at = int(rng.integers(first // 4096 + 1, len(content) // 4096 - 1)) * 4096
    content[at : at + 4096] = bytes(4096)
    return f"a block of 4096 zeros at byte {at}", bytes(content)


def _more_behind(rng: Rng, raw: RawFits) -> str:
    raw.behind = rng.bytes(int(rng.integers(1, 6000)))
    return f"{len(raw.behind)} random bytes behind the last block"


def _without_end(rng: Rng, raw: RawFits) -> tuple[str, bytes]:
    number = int(rng.integers(2))
    content = raw.content()
    at = content.index(b"END".ljust(_CARD)) if number == 0 else content.rindex(b"END".ljust(_CARD))
    return f"no END in header {number}", content[:at] + b"XND" + content[at + 3 :]


# Pixels


def _pixels(raw: RawFits) -> NDArray[np.int32]:
    hdu = raw.hdus[1]
    axes = {card[:8].strip(): card[10:].split(b"/")[0].strip() for card in hdu.cards if card[8:9] == b"="}
    ny, nx = int(axes[b"NAXIS2"]), int(axes[b"NAXIS1"])
    return np.frombuffer(hdu.data[: 4 * ny * nx], ">i4").reshape(ny, nx).astype(np.int32)


def _put(raw: RawFits, pixels: NDArray[Any]) -> None:
    stored = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    raw.hdus[1].data = stored + bytes(-len(stored) % 2880)


def _area(rng: Rng, shape: tuple[int, ...]) -> tuple[slice, slice]:
    # A readout channel is wider than this, also in a small frame.
    height, width = (int(rng.integers(max(n // 8, _CHANNEL), n)) for n in shape)
    y, x = int(rng.integers(0, shape[0] - height)), int(rng.integers(0, shape[1] - width))
    return slice(y, y + height), slice(x, x + width)


def _one_value(rng: Rng, raw: RawFits) -> str:
    pixels = _pixels(raw)
    area, value = _area(rng, pixels.shape), int(rng.choice([0, -1, 7, int(np.median(pixels)), 65535]))
    pixels[area] = value
    _put(raw, pixels)
    return f"rows {area[0].start} to {area[0].stop}, columns {area[1].start} to {area[1].stop} are {value}"


def _unread_rows(rng: Rng, raw: RawFits) -> str:
    pixels = _pixels(raw)
    rows = int(rng.integers(pixels.shape[0] // 20, pixels.shape[0]))
    pixels[-rows:] = 0
    _put(raw, pixels)
    return f"the last {rows} rows are zeros"


def _blank(rng: Rng, raw: RawFits) -> str:
    pixels = _pixels(raw)
    pixels[_area(rng, pixels.shape)] = -(2**31)
    _put(raw, pixels)
    raw.set(1, "BLANK", str(-(2**31)))
    return "an area at BLANK"


def _not_finite(rng: Rng, raw: RawFits) -> str:
    pixels = _pixels(raw).astype(np.float32)
    some = rng.random(pixels.shape) < 10.0 ** rng.uniform(-4, -0.5)
    some.flat[int(rng.integers(some.size))] = True
    pixels[some] = rng.choice([np.nan, np.inf, -np.inf])
    _put(raw, pixels)
    raw.set(1, "BITPIX", "                 -32")
    return f"{int(some.sum())} pixels of a float image are not finite"


def _shifted_rows(rng: Rng, raw: RawFits) -> str:
    pixels = _pixels(raw)
    first, by = int(rng.integers(1, pixels.shape[0] - 8)), int(rng.integers(1, pixels.shape[1]))
    flat = pixels.reshape(-1)
    at = first * pixels.shape[1]
    flat[at:] = np.roll(flat[at:], by)
    _put(raw, pixels)
    return f"shifted by {by} pixels from row {first} on"


def _saturated(rng: Rng, raw: RawFits) -> str:
    pixels = _pixels(raw)
    share = float(rng.uniform(0.05, 1))
    pixels[rng.random(pixels.shape) < share] = 2_000_000
    _put(raw, pixels)
    return f"{share:.0%} of the pixels saturated"


def _offset_quadrant(rng: Rng, raw: RawFits) -> str:
    pixels = _pixels(raw)
    ny, nx = (n // 2 for n in pixels.shape)
    y, x, by = int(rng.integers(2)), int(rng.integers(2)), int(rng.integers(20, 3000))
    pixels[y * ny : (y + 1) * ny, x * nx : (x + 1) * nx] += by
    _put(raw, pixels)
    return f"a quadrant {by} ADU high"


def _datasum(raw: RawFits) -> None:
    values = np.frombuffer(raw.hdus[1].data, ">u4").astype(np.uint64)
    total = int(values.sum())
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    raw.set(1, "DATASUM", f"'{total}'")


def _flip(rng: Rng, raw: RawFits) -> int:
    data = bytearray(raw.hdus[1].data)
    flips = int(10 ** rng.uniform(0, 3))
    for at in rng.integers(0, _pixels(raw).size * 4, flips):
        data[int(at)] ^= 1 << int(rng.integers(8))
    raw.hdus[1].data = bytes(data)
    return flips


def _flipped_with_sum(rng: Rng, raw: RawFits) -> str:
    _datasum(raw)
    return f"{_flip(rng, raw)} bits flipped, with the previous DATASUM"


def _flipped(rng: Rng, raw: RawFits) -> str:
    return f"{_flip(rng, raw)} bits flipped"


def _byte_swapped(rng: Rng, raw: RawFits) -> str:
    _put(raw, _pixels(raw).byteswap())
    return "bytes of the pixels swapped"


def _wrong_zero(rng: Rng, raw: RawFits) -> str:
    zero = int(rng.choice([32768, -32768, 2**31]))
    raw.set(1, "BZERO", f"{zero:>20}")
    return f"BZERO = {zero}"


# Cards


def _some_card(rng: Rng, raw: RawFits) -> tuple[int, int]:
    number = int(rng.random() < 0.3)
    return number, int(rng.integers(len(raw.hdus[number].cards)))


def _keyword(card: bytes) -> str:
    return card[:8].decode("latin-1").strip()


def _random_bytes(rng: Rng, raw: RawFits) -> str:
    hdu, at = _some_card(rng, raw)
    card = bytearray(raw.hdus[hdu].cards[at])
    places = [int(place) for place in rng.integers(0, 31, int(rng.integers(1, 4)))]
    for place in places:
        card[place] = int(rng.integers(256))
    before, raw.hdus[hdu].cards[at] = raw.hdus[hdu].cards[at], bytes(card)
    return f"{before[:31]!r} is {bytes(card[:31])!r} in header {hdu}"


def _dropped(rng: Rng, raw: RawFits) -> str:
    hdu, at = _some_card(rng, raw)
    return f"without {_keyword(raw.hdus[hdu].cards.pop(at))} in header {hdu}"


def _twice(rng: Rng, raw: RawFits) -> str:
    hdu, at = _some_card(rng, raw)
    card = raw.hdus[hdu].cards[at]
    value = rng.choice([b"'other   '", b"17", b"3.5", b"F"])
    raw.add(hdu, card[:10] + bytes(value))
    return f"{_keyword(card)} twice in header {hdu}, then {bytes(value)!r}"


def _wrong_type(rng: Rng, raw: RawFits) -> str:
    hdu, at = _some_card(rng, raw)
    card = raw.hdus[hdu].cards[at]
    value = bytes(
        rng.choice([b"'text    '", b"                   T", b"", b"1.0E+400", b"(1.0, 2.0)", b"-1", b"0.5"])
    )
    raw.hdus[hdu].cards[at] = (card[:10] + value).ljust(_CARD)
    return f"{_keyword(card)} = {value.decode().strip() or 'nothing'} in header {hdu}"


def _comma(rng: Rng, raw: RawFits) -> str:
    numbers = [
        (hdu, at)
        for hdu in range(2)
        for at, card in enumerate(raw.hdus[hdu].cards)
        if b"." in card[10:30] and b"'" not in card[10:30] and card[8:9] == b"="
    ]
    hdu, at = numbers[int(rng.integers(len(numbers)))]
    card = raw.hdus[hdu].cards[at]
    raw.hdus[hdu].cards[at] = card[:10] + card[10:30].replace(b".", b",") + card[30:]
    return f"{_keyword(card)} with a decimal comma in header {hdu}"


def _without_equals(rng: Rng, raw: RawFits) -> str:
    hdu, at = _some_card(rng, raw)
    card = raw.hdus[hdu].cards[at]
    raw.hdus[hdu].cards[at] = card[:8] + b"  " + card[10:]
    return f"{_keyword(card)} without = in header {hdu}"


def _lower_case(rng: Rng, raw: RawFits) -> str:
    hdu, at = _some_card(rng, raw)
    card = raw.hdus[hdu].cards[at]
    raw.hdus[hdu].cards[at] = card[:8].lower() + card[8:]
    return f"{_keyword(card)} in lower case in header {hdu}"


def _another_size(rng: Rng, raw: RawFits) -> str:
    keyword = str(rng.choice(["NAXIS1", "NAXIS2", "NAXIS", "BITPIX"]))
    value = int(rng.choice([-1, 0, 1, 3, 16, 255, 257, 100000, 2**40]))
    raw.set(1, keyword, f"{value:>20}")
    return f"{keyword} = {value}"


def _open_quote(rng: Rng, raw: RawFits) -> str:
    hdu, at = _some_card(rng, raw)
    card = raw.hdus[hdu].cards[at]
    raw.hdus[hdu].cards[at] = (card[:10] + b"'it's open").ljust(_CARD)
    return f"{_keyword(card)} = 'it's open in header {hdu}"


CLASSES: Final[tuple[MutationClass, ...]] = (
    MutationClass("truncated", _truncated, seen_at_once=True),
    MutationClass("packed and truncated", _packed_and_cut, seen_at_once=True, suffix=".gz"),
    MutationClass("no END", _without_end, seen_at_once=True),
    MutationClass("not finite", _not_finite, seen_at_once=True),
    MutationClass("block of zeros on the disk", _lost_block),
    MutationClass("bytes behind the end", _more_behind),
    MutationClass("area of one value", _one_value, seen_at_once=True),
    MutationClass("unread rows", _unread_rows, seen_at_once=True),
    MutationClass("BLANK", _blank, seen_at_once=True),
    MutationClass("shifted rows", _shifted_rows),
    MutationClass("saturated share", _saturated, seen_at_once=True),
    MutationClass("offset quadrant", _offset_quadrant),
    MutationClass("flipped bits, DATASUM present", _flipped_with_sum, seen_at_once=True),
    MutationClass("flipped bits", _flipped),
    MutationClass("swapped bytes", _byte_swapped),
    MutationClass("wrong BZERO", _wrong_zero),
    MutationClass("random bytes in a card", _random_bytes),
    MutationClass("dropped card", _dropped),
    MutationClass("card twice", _twice),
    MutationClass("wrong type", _wrong_type),
    MutationClass("decimal comma", _comma),
    MutationClass("card without =", _without_equals),
    MutationClass("keyword in lower case", _lower_case),
    MutationClass("wrong size", _another_size),
    MutationClass("open quote", _open_quote),
)
