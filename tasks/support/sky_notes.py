"""What the sky step found in the frames of a stack, for its warnings."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from tasks.support.references import ScratchRef


def sky_warnings(frames: Sequence[ScratchRef]) -> tuple[str, ...]:
    """Return what the user should know about the skies of the stacked frames.

    Parameters
    ----------
    frames
        Sky-subtracted frames, with the figures of `imaging.sky.subtract.SkyMetrics`.
    """
    return (*_probe(frames), *_offsets(frames))


def _probe(frames: Sequence[ScratchRef]) -> tuple[str, ...]:
    found = [f for f in frames if _of(f, "vignetted")]
    if not found:
        return ()
    listed = ", ".join(f"{f.name} {_of(f, 'vignetted'):.0f} + {_of(f, 'glow'):.0f}" for f in found)
    return (
        f"the guide probe is in the field of {len(found)} of {len(frames)} frames: its shadow (DQ 64) is neither used "
        f"as sky nor stacked, and its glow was subtracted (pixels of shadow + glow: {listed})",
    )


def _offsets(frames: Sequence[ScratchRef]) -> tuple[str, ...]:
    found = []
    for name, what in (
        ("channel_rms", "readout channels"),
        ("row_rms", "rows"),
        ("periodic_rms", "repeating columns"),
    ):
        sizes = [_of(f, name) for f in frames if _of(f, name) > 0]
        if sizes:
            found.append(
                f"{what} of {median(sizes):.1f} electrons rms in {len(sizes)} of {len(frames)} frames"
            )
    return (f"offsets were removed: {'; '.join(found)}",) if found else ()


def _of(frame: ScratchRef, name: str) -> float:
    return float(frame.metrics.get(name) or 0.0)
