"""The store's record of an examined file."""

from __future__ import annotations

from calib_store.model.records import FrameRecord
from imaging.io.examine import Examination


def record_of(seen: Examination) -> FrameRecord | None:
    """Return the record for the store of a file that was examined completely; None for a file not to be
    recorded.

    A frame that must not be used has the reason in ``quarantine``, and no facts if its headers lack them. Not
    recorded are products and frames of unknown instruments, which a watched folder may receive, problems that
    may be transient, and frames that the store knows as usable and that only this check refuses.
    """
    if seen.sha256 is None or seen.verdict in ("product", "foreign", "unreadable"):
        return None
    faulty = seen.verdict == "faulty"
    if faulty and (seen.known or seen.of_product):
        return None
    return FrameRecord(
        seen.path, seen.sha256, seen.size, seen.changed_ns, seen.facts, {} if seen.known else seen.header,
        seen.reason if faulty else None, seen.bright,
    )  # fmt: skip
