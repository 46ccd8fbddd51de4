"""The examination of a mutated file, as `reduce` does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from benchmarks.faults.mutate import Mutation
from imaging.errors import NirflowError
from imaging.frames.find_files import CheckParameters
from imaging.io.examine import examine
from imaging.io.raw_file import open_raw

#: Facts of no consequence for a reduction.
_INFORMATIVE: Final = {"header_written", "data_label", "image_quality", "airmass", "name"}

Fate = Literal["refused", "noted", "harmless", "passed", "named", "within noise", "crashed"]


@dataclass(frozen=True)
class Examined:
    """A mutated file and what its examination found.

    Attributes
    ----------
    mutation
        The file.
    fate
        ``refused``; ``noted``: used, with a note; ``harmless``: facts and pixels as before; ``passed``: they
        differ, and the reduction has to find out; ``crashed``: an exception. After the reduction, a file that
        passed is ``named`` in its report, or its products are ``within noise`` of the untouched ones.
    message
        Reason, note, difference or exception.
    """

    mutation: Mutation
    fate: Fate
    message: str

    @property
    def silent(self) -> bool:
        """Whether the examination should have found something and did not."""
        return self.fate == "crashed" or (self.fate == "passed" and self.mutation.kind.seen_at_once)


def examine_mutation(one: Mutation, folder: Path) -> Examined:
    """Write a mutated file and examine it as `reduce` does."""
    path = one.write(folder)
    check = CheckParameters(shape=None)
    try:
        seen, before = examine(path, check), examine(one.base, check)
        if not seen.usable:
            fate: Fate = "refused" if seen.reason else "crashed"
            return Examined(one, fate, seen.reason or "refused without a reason")
        more = [note for note in seen.notes if note not in before.notes]
        if more:
            return Examined(one, "noted", "; ".join(more))
        difference = _differences(one.base, path)
        return Examined(one, "passed" if difference else "harmless", difference)
    except NirflowError as error:
        return Examined(one, "refused", str(error))
    except Exception as error:  # noqa: BLE001 - the measure is that there is no other exception
        return Examined(one, "crashed", f"{type(error).__name__}: {error}")
    finally:
        path.unlink(missing_ok=True)


def _differences(base: Path, path: Path) -> str:
    """Return in what a frame differs from the one it was made from; an empty text if in nothing."""
    with open_raw(base, shape=None) as one, open_raw(path, shape=None) as other:
        old, new = one.facts.values, other.facts.values
        facts = [name for name in old if name not in _INFORMATIVE and old[name] != new.get(name)]
        if one.shape != other.shape:
            return f"shape {other.shape}"
        changed = int(np.count_nonzero(one.rows().astype(np.float64) != other.rows().astype(np.float64)))
    texts = [f"{name} = {new.get(name)!r}" for name in facts] + ([f"{changed} pixels"] if changed else [])
    return ", ".join(texts)
