"""What the store notes of an examined file."""

from __future__ import annotations

from calib_store.model.records import FrameRecord
from imaging.io.examine import Examination


def record_of(seen: Examination) -> FrameRecord | None:
    """Return what the store is to note of a file that was examined to its end.

    A frame that must not be used comes with its reason in ``quarantine``, and without facts where its headers do not
    give them. A watched folder may get products, and the frames of all instruments: neither is judged. Nothing is
    noted either of what may pass, and of a frame that the store knows as usable and only this check refuses.
    """
    if seen.sha256 is None or seen.verdict in ("product", "foreign", "unreadable"):
        return None
    faulty = seen.verdict == "faulty"
    if faulty and (seen.known or seen.of_product):
        return None
    return FrameRecord(
        seen.path, seen.sha256, seen.size, seen.mtime_ns, seen.facts, {} if seen.known else seen.header,
        seen.reason if faulty else None,
    )  # fmt: skip
