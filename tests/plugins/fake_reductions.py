"""Reductions without pixels: real plans, products of a few bytes, and noise that follows from the frames."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID

from calib_store.model.records import Frame, FrameRecord, InputRef, Product
from calib_store.store import Store
from calib_store.tables.products import NewProduct
from flows.recipes.night_plan import NightPlan
from flows.run.plan import plan_night
from flows.run.redo import Redo, redo_of, replace_old
from flows.run.remake_plan import plan_remakes
from imaging.errors import NirflowError, StoreError
from imaging.frames.facts import FrameFacts
from tasks.bpm import BpmSet
from tasks.building.build import existing
from tasks.building.complete_sets import complete_set
from tasks.building.product_status import certified, confirmed
from tasks.building.recipe import Ingredient, Recipe, provisional
from tasks.flat import FlatSet
from tasks.science.science_set import ScienceSet
from tasks.stack import science_recipe
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Calibrations, FrameSet, ProductRef, RawFrame
from tasks.support.workspace import Workspace

Kind = Literal["dark", "bpm", "flat"]
Work = FrameSet | BpmSet | FlatSet | ScienceSet


@dataclass(frozen=True)
class Place:
    """A substitute for the workspace of a run."""

    opened: Store
    parameters: ReductionParameters
    as_of: datetime | None = None
    left_out: frozenset[str] = frozenset()

    def store(self) -> Store:
        """Return the store."""
        return self.opened


@dataclass
class FakeReductions:
    """Reductions of frames into a store.

    Parameters
    ----------
    store
        The store.
    file
        The file of every product.
    noise
        Noise of a raw frame by its sha256; default: 1.
    leaky
        Frames (sha256) that a master of four or more leaves out.
    """

    store: Store
    file: Path
    noise: Mapping[str, float] = field(default_factory=dict)
    leaky: Collection[str] = ()

    def run(
        self,
        frames: Iterable[Frame],
        parameters: ReductionParameters | None = None,
        *,
        missing: frozenset[Kind] = frozenset(),
        as_of: datetime | None = None,
        only: tuple[Any, ...] = (),
    ) -> list[Product]:
        """Reduce frames; products that cannot be made are skipped."""
        given = parameters or ReductionParameters()
        plan = plan_night(surveyed(frames), given, only=only)
        place = cast(Workspace, Place(self.store, given, as_of))
        made: list[Product] = []
        for work in works_of(plan):
            product = self._made(work, given, place, made, missing, frozenset())
            if product is not None:
                made.append(product)
        return made

    def redo(self, cause: str) -> Redo | None:
        """Make the products of a bad input again, as `flows.run.remake` does; None if it has none."""
        try:
            redo = redo_of(self.store, cause)
        except NirflowError:
            return None
        known = self.store.frames.with_sha256s(redo.frames)
        plan = plan_remakes(redo, surveyed(known.values()), known, ReductionParameters())
        bad = {product.id for product in redo.products}
        made: dict[UUID, Product] = {}
        for remake in plan.remakes:
            original = [self.store.get(one) for one in remake.made_with if one not in bad]
            first = [made[one] for one in remake.made_with if one in made]
            place = cast(Workspace, Place(self.store, remake.parameters))
            own = [*first, *(p for p in original if p.counts)]
            new = self._made(
                remake.work, remake.parameters, place, own, frozenset(remake.missing), frozenset(bad)
            )
            if new is not None:
                made[remake.old.id] = new
        pairs = [(p, reference(made[p.id])) for p in redo.products if p.id in made]
        replace_old(self.store, redo, pairs)
        return redo

    def _made(
        self, work: Work, parameters: ReductionParameters, place: Workspace, own: Sequence[Product],
        missing: frozenset[Kind], without: frozenset[UUID],
    ) -> Product | None:  # fmt: skip
        try:
            recipe = self._recipe(work, parameters, place, own, missing, without)
            return self._found_or_built(recipe, place)
        except (LookupError, StoreError):
            return None

    def _recipe(
        self, work: Work, parameters: ReductionParameters, place: Workspace, own: Sequence[Product],
        missing: frozenset[Kind], without: frozenset[UUID],
    ) -> Recipe:  # fmt: skip
        if isinstance(work, ScienceSet):
            chosen = self._chosen(
                work.frames, ("dark", "bpm", "flat"), parameters, place, own, missing, without
            )
            return science_recipe(work, chosen, parameters)
        if isinstance(work, FrameSet):
            return Recipe("dark", work.label, 1, _as("dark", work), {"dark": parameters.dark})
        flat = work if isinstance(work, FlatSet) else work.flat
        lamps = [*_as("lamp_on", flat.on), *_as("lamp_off", flat.off)]
        if isinstance(work, BpmSet):
            frames = [*lamps, *_as("short_dark", work.short_darks)]
            return Recipe("bpm", work.label, 1, frames, {"bpm": parameters.bpm})
        chosen = self._chosen(work.first, ("bpm",), parameters, place, own, missing, without)
        return Recipe("flat", work.label, 1, lamps, {"flat": parameters.flat}, chosen)

    def _chosen(
        self, frames: FrameSet, kinds: Sequence[Kind], parameters: ReductionParameters, place: Workspace,
        own: Sequence[Product], missing: frozenset[Kind], without: frozenset[UUID],
    ) -> Calibrations:  # fmt: skip
        taken: dict[str, ProductRef] = {}
        lacking: list[Kind] = []
        for kind in kinds:
            found = None if kind in missing else self.store.match(
                frames.middle.facts, kind, as_of=place.as_of, prefer=[p.id for p in own], without=without,
                parameters=parameters.model_dump(mode="json"),
            ).product  # fmt: skip
            if found is not None:
                taken[kind] = reference(found)
            elif kind in missing:
                lacking.append(kind)
            else:
                raise LookupError(kind)
        return Calibrations(present=tuple(taken.values()), missing=tuple(lacking))

    def _found_or_built(self, recipe: Recipe, place: Workspace) -> Product:
        product = complete_set(recipe, place) or existing(recipe, place)
        if product is None:
            product = self._build(recipe, place)
        return certified(confirmed(product, provisional(recipe, place), place), place)

    def _build(self, recipe: Recipe, place: Workspace) -> Product:
        left_out = self._left_out(recipe.ingredients)
        used = [i for i in recipe.ingredients if i not in left_out]
        facts = [i.frame.facts for i in used]
        metrics: dict[str, Any] = {}
        if recipe.kind in ("dark", "flat"):
            metrics["noise"] = self._noise(used)
        if left_out:
            metrics["left_out"] = [
                {"name": i.frame.name, "reason": "level +30 e- off", "remedy": ""} for i in left_out
            ]
            metrics["given_as"] = {i.frame.sha256: i.role for i in left_out}
            metrics["unused"] = [i.frame.sha256 for i in left_out]
        new = NewProduct(
            kind=recipe.kind,
            name=f"{recipe.first.facts.root}_{recipe.kind}.fits",
            facts=facts[0],
            span=(min(f.started for f in facts), max(f.ended for f in facts)),
            inputs=[
                *(InputRef(i.role, i.frame.sha256) for i in used),
                *(InputRef(p.kind, p.uuid) for p in recipe.calibrations.present),
            ],
            parameters=recipe.values,
            metrics=metrics,
            recipe_key=recipe.key,
            algorithm_version=str(recipe.version),
            provisional=provisional(recipe, place),
        )
        return self.store.add(new, self.file)

    def _left_out(self, ingredients: Sequence[Ingredient]) -> list[Ingredient]:
        """Return the ingredients that are unlike their peers, if there are enough peers."""
        found = []
        for one in ingredients:
            peers = [i for i in ingredients if i.role == one.role and i.frame.sha256 not in self.leaky]
            if one.role != "science" and one.frame.sha256 in self.leaky and len(peers) >= 3:
                found.append(one)
        return found

    def _noise(self, used: Sequence[Ingredient]) -> float:
        each = [self.noise.get(i.frame.sha256, 1.0) for i in used]
        return round(math.sqrt(sum(one**2 for one in each)) / len(each), 6)


def works_of(plan: NightPlan) -> list[Work]:
    """Return the works of a plan, each after those it depends on."""
    return [*plan.of("dark"), *plan.of("bpm"), *plan.of("flat"), *plan.of("image")]


def surveyed(frames: Iterable[Frame]) -> list[RawFrame]:
    """Return the frames as found by a survey of their files."""
    usable = [f for f in frames if f.rejected is None and f.quarantine is None and f.facts is not None]
    found = {
        f.sha256: RawFrame(path=f.paths[0], source=f.paths[0], sha256=f.sha256, facts=f.facts) for f in usable
    }
    return sorted(found.values(), key=lambda f: (f.facts.started, f.name))


def reference(product: Product) -> ProductRef:
    """Return a reference to a product."""
    names = ("kind", "name", "sha256", "recipe_key")
    return ProductRef.model_validate({n: getattr(product, n) for n in names} | {"id": str(product.id)})


def raw_record(facts: FrameFacts, series: str) -> FrameRecord:
    """Return a raw frame with these facts, whose content is its name and that of the series."""
    sha256 = hashlib.sha256(f"{series} {facts.name}".encode()).hexdigest()
    return FrameRecord(Path(f"/raw/{series}/{facts.name}"), sha256, 10, 1, facts)


def _as(role: str, frames: FrameSet | None) -> list[Ingredient]:
    return [Ingredient(role, frame) for frame in (frames.frames if frames is not None else ())]
