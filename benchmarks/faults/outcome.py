"""The outcome of a reduction: its report, messages, products and their figures, and checks on them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from astropy.io import fits

from benchmarks.faults.situation import Check
from imaging.errors import NirflowError
from imaging.products.product_file import datasums
from imaging.simulator.truth import NightTruth

if TYPE_CHECKING:
    from benchmarks.faults.laboratory import Laboratory

#: Figures by product and name.
Figures = dict[tuple[str, str], float]

#: How far a figure may be from that of the untouched night: a frame more or less changes it by less.
TOLERANCE: Final[Mapping[tuple[str, str], float]] = {
    ("dark", "VAR pull"): 0.05,
    ("dark", "mean offset"): 0.6,
    ("flat", "VAR pull"): 0.08,
    ("flat", "scale"): 0.002,
    ("stack", "registration"): 0.03,
    ("stack", "flux scale"): 0.004,
    ("stack", "flux scatter"): 0.25,
    ("stack", "VAR pull"): 0.06,
}
#: Lists of names in a report, which are no messages.
_NAMES: Final = ("inputs", "calibrations", "metrics", "replaces")
#: What a record of a report has if it explains something: a frame that is left out, a failure.
_EXPLAIN: Final = {"reason", "message", "text", "note"}
_PLANES: Final = ("SCI", "VAR", "DQ")


@dataclass(frozen=True)
class Outcome:
    """What a reduction did.

    Attributes
    ----------
    name, night, out
        The situation, the folder of raw frames and that of the products.
    code, report, printed, err, log
        Exit code, JSON report (empty if none was printed), other output, standard error, log file.
    figures
        Products compared with the truth.
    lab
        The laboratory.
    store
        The environment that names the store.
    """

    name: str
    night: Path
    out: Path
    code: int
    report: dict[str, Any]
    printed: str
    err: str
    log: str
    figures: Figures
    lab: Laboratory
    store: Mapping[str, str]

    def products(self, kind: str) -> list[dict[str, Any]]:
        """Return the products of a kind."""
        return [one for one in self.report.get("products", ()) if one["kind"] == kind]

    def used(self, *names: str, kind: str = "image") -> bool:
        """Return whether one product of a kind was made from all these frames."""
        wanted = {_root(name) for name in names}
        return any(wanted <= {_root(name) for name in one["inputs"]} for one in self.products(kind))

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """Every message: of the report, the log, standard error and ``nirflow inspect``."""
        inspected = self.lab.inspect(self.night).splitlines()
        return (*messages_of(self.report), *self.log.splitlines(), *self.err.splitlines(), *inspected)

    def reported(self, name: str) -> str | None:
        """Return the first message of the report that names a file, or None."""
        return next((line for line in messages_of(self.report) if _root(name) in line), None)

    @cached_property
    def text(self) -> str:
        """The report as the user sees it at a terminal."""
        from flows.run.report import NightReport
        from nirflow.console.reduction_report import print_report

        if not self.report:
            return self.printed
        with redirect_stdout(io.StringIO()) as out:
            print_report(NightReport.model_validate(self.report))
        return out.getvalue()

    def message(self, name: str, *terms: str) -> str | None:
        """Return the first message that names a file (or anything) and has all terms (patterns), or None."""
        patterns = [re.compile(term, re.I) for term in (re.escape(_root(name)), *terms)]
        return next((line for line in self.lines if all(one.search(line) for one in patterns)), None)

    # Checks

    def named(self, name: str, *terms: str, grave: bool = False) -> Check:
        """Check that a message names a file with these terms."""
        found = self.message(name, *terms)
        wanted = " and ".join((_root(name), *terms))
        return Check(found is not None, _short(found) if found else f"no message has {wanted}", grave)

    def quiet(self, name: str, *terms: str) -> Check:
        """Check that no message names a file with these terms."""
        found = self.message(name, *terms)
        return Check(found is None, f"alarm: {_short(found)}" if found else f"no message about {_root(name)}")

    def is_used(self, name: str, kind: str = "image") -> Check:
        """Check that a product of a kind was made from a frame."""
        if self.used(name, kind=kind):
            return Check(True, f"{_root(name)} is in the {kind}")
        reason = self.message(name, "left out|cannot|invalid|fail|missing|refused|differ|reason|card|keyword")
        return Check(False, f"{_root(name)} is not in the {kind}: {_short(reason or self.failure)}")

    def is_out(self, name: str, kind: str = "image") -> Check:
        """Check that no product of a kind was made from a frame."""
        used = self.used(name, kind=kind)
        return Check(not used, f"{_root(name)} is {'' if used else 'not '}in the {kind}")

    def count(self, kind: str, frames: int, products: int = 1) -> Check:
        """Check the number of products of a kind and of the frames of the first one."""
        found = [len(one["inputs"]) for one in self.products(kind)]
        right = len(found) == products and found[0] == frames
        return Check(right, f"{kind} of {found or 'no'} frames" + ("" if right else f", expected {frames}"))

    @property
    def failure(self) -> str:
        """Why a product or the run failed."""
        failures = [one["message"] for one in self.report.get("failures", ())]
        tail = (self.err or self.printed).strip().splitlines()
        return (failures or tail[-1:] or [f"exit code {self.code}"])[0]

    def clean(self) -> Check:
        """Check that no traceback was printed or logged, and that a report exists."""
        where = self.err + self.printed + self.log
        trace = "Traceback (most recent call last)" in where
        if trace or not self.report:
            last = [line for line in where.splitlines() if re.match(r"\s*[\w.]*(Error|Exception)\b", line)]
            return Check(False, f"{'traceback: ' if trace else ''}{_short((last or [self.failure])[-1])}")
        return Check(True, "no traceback")

    def right_figures(self, *products: str) -> Check:
        """Check the figures of products against those of the untouched night."""
        expected = self.lab.expected
        wrong, shown = [], []
        for (product, figure), tolerance in TOLERANCE.items():
            if products and product not in products:
                continue
            want, got = expected[product, figure], self.figures.get((product, figure))
            text = f"{product} {figure} {'missing' if got is None else f'{got:.4g}'} ({want:.4g})"
            shown.append(text)
            if got is None or not abs(got - want) <= tolerance:
                wrong.append(text)
        if wrong and any(text.split()[-2] == "missing" for text in wrong):
            wrong.append(_short(self.failure))
        return Check(not wrong, ", ".join(wrong or shown))

    def same_pixels(self, *kinds: str) -> Check:
        """Check that products have the pixels of the untouched night's."""
        for kind in kinds:
            sums = [_sums(self.products(kind)), _sums(self.lab.untouched.products(kind))]
            if not sums[0] or sums[0] != sums[1]:
                return Check(False, f"the {kind} differs from that of the untouched night")
        return Check(True, f"{', '.join(kinds)} as in the untouched night")

    def plane(self, kind: str, name: str) -> np.ndarray[Any, Any]:
        """Return a plane of the first product of a kind."""
        with fits.open(self.products(kind)[0]["output"], memmap=False) as hdus:
            return np.asarray(hdus[name].data)


def figures_of(report: Mapping[str, Any], truth: NightTruth) -> Figures:
    """Return the figures of a report's products compared with the truth; fewer if one cannot be compared."""
    from flows.run.report import NightReport
    from nirflow.demo import compare

    night = NightReport.model_validate(report)
    figures: Figures = {}
    for kind in ("bpm", "dark", "flat", "image"):
        largest = sorted((p for p in night.products if p.kind == kind), key=lambda p: -len(p.inputs))
        try:
            rows = compare(night.model_copy(update={"products": tuple(largest)}), truth).rows
        except (KeyError, ValueError, TypeError, OSError, NirflowError):
            continue  # a product that does not exist, cannot be compared, or has frames unknown to the truth
        figures |= {(row.product, row.figure): row.value for row in rows}
    return figures


def _sums(products: list[dict[str, Any]]) -> list[str]:
    if not products or products[0]["output"] is None:
        return []
    sums = datasums(Path(products[0]["output"]))
    return [sums[plane] for plane in _PLANES if plane in sums]


def messages_of(report: Any) -> Iterator[str]:
    """Yield the texts of each record with a reason as one line, and each text of a list as a line."""
    if isinstance(report, dict):
        if _EXPLAIN & set(report):
            yield " ".join(value for value in report.values() if isinstance(value, str))
        for key, value in report.items():
            if key not in _NAMES:
                yield from messages_of(value)
    elif isinstance(report, list):
        for one in report:
            if isinstance(one, str):
                yield one
            else:
                yield from messages_of(one)


def _root(name: str) -> str:
    return re.sub(r"(?i)\.(fits?|fts)(\.\w+)?$", "", Path(name).name)


def _short(text: str | None, length: int = 160) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def failed(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that are not true."""
    return [check for check in checks if not check.ok]
