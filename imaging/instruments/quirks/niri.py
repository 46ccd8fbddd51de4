"""What the table of NIRI cannot express: the offsets of early data, which lack P and Q."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from imaging.instruments.keywords import Keywords

_P_AND_Q: Final = ("POFFSET", "QOFFSET")
_ON_THE_SKY: Final = ("RAOFFSET", "DECOFFSE")
#: Offsets that a header may have, arcsec.
_LARGEST: Final = 36_000.0


def completed(keys: Keywords, facts: dict[str, Any]) -> dict[str, Any]:
    """Take the offsets P and Q from those on the sky in a header that lacks P and Q, as those before 2004 do.

    Headers of all years turn the offsets on the sky by 180 degrees minus the position angle in place of the position
    angle: P = -(RA cos PA + DEC sin PA), Q = RA sin PA - DEC cos PA. It holds to 1e-6 arcsec in all real headers that
    have both pairs, and the world coordinates of consecutive frames follow P and Q.
    """
    if any(keys.found(keyword) is not None for keyword in _P_AND_Q):
        return facts
    first, second = (keys.optional(keyword) for keyword in _ON_THE_SKY)
    if first is None or second is None or max(abs(first), abs(second)) > _LARGEST:
        return facts
    angle = math.radians(facts["pa"])
    facts["poffset"] = -(first * math.cos(angle) + second * math.sin(angle))
    facts["qoffset"] = first * math.sin(angle) - second * math.cos(angle)
    return facts
