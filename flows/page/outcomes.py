"""The plan of a night compared with the reports of its runs. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from flows.page.model import Group, NightProduct
from flows.recipes.all_recipes import RECIPES
from flows.recipes.night_plan import NightPlan
from flows.run.report import Failure, NightReport
from imaging.kinds import KINDS, TARGETS, Target, target_of
from tasks.support.references import LeftOut, ProductRef

#: Kinds in order of interest.
_ORDER: Final = tuple(reversed(TARGETS))
_SHA256: Final = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True)
class Results:
    """The results after all runs of a night: a later run takes precedence over an earlier one.

    Attributes
    ----------
    products
        The last product of each kind, label and first input, with the number of its run.
    earlier
        Products that were replaced by those of a later run.
    failures
        Failures that no concurrent or later run resolved, with the number of their run.
    """

    products: tuple[tuple[int, ProductRef], ...]
    earlier: tuple[ProductRef, ...]
    failures: tuple[tuple[int, Failure], ...]


def results_of(reports: Sequence[NightReport | None]) -> Results:
    """Return the results of runs given in order of time; None stands for an unreadable report."""
    products: dict[tuple[str, str, str], tuple[int, ProductRef]] = {}
    failures: dict[tuple[str, str], tuple[int, Failure]] = {}
    seen: dict[str, ProductRef] = {}
    for number, report in enumerate(reports):
        if report is None:
            continue
        for failure in report.failures:
            failures[kind_of(failure), failure.label] = number, failure
        for ref in report.products:
            kind = target_of(ref.kind)
            products[kind, ref.label, next(iter(ref.inputs), ref.id)] = number, ref
            failures.pop((kind, ref.label), None)
            seen[ref.id] = ref
    last = {ref.id for _, ref in products.values()}
    earlier = tuple(ref for id_, ref in seen.items() if id_ not in last)
    return Results(tuple(products.values()), earlier, tuple(failures.values()))


def kind_of(failure: Failure) -> Target:
    """Return the kind of group that a failure concerns: all steps between frames and stack are science."""
    return target_of(failure.step)


def planned(plan: NightPlan, names: Mapping[str, str], own: Collection[str]) -> Iterator[Group]:
    """Yield the groups of a plan.

    Parameters
    ----------
    plan
        The plan.
    names
        Name of each frame by its sha256.
    own
        Sha256 of the night's own frames.
    """

    for kind, recipe in reversed(tuple(RECIPES.items())):
        for one in plan.of(kind):
            leading = tuple(frame.sha256 for frame in recipe.first(one))
            members = tuple(dict.fromkeys((*leading, *(frame.sha256 for frame in recipe.frames(one)))))
            needs = recipe.needs(one)
            yield Group(
                target_of(kind),
                one.label,
                tuple(names[member] for member in members),
                members,
                sum(member not in own for member in members),
                first=leading,
                middle=recipe.main(one).middle.sha256 if needs else "",
                needs=needs,
                notes=tuple(_with_names(note, names) for note in recipe.notes(one)),
            )


def _with_names(note: str, names: Mapping[str, str]) -> str:
    """Return a note with the names of frames; the frames of this plan are called by their sha256."""
    return _SHA256.sub(lambda found: names.get(found[0], found[0]).removesuffix(".fits"), note)


def outcomes(
    groups: Iterable[Group],
    held: Results,
    products: Mapping[UUID, NightProduct],
    own: Collection[str],
) -> tuple[Group, ...]:
    """Determine the outcome of each group.

    Parameters
    ----------
    groups
        The plan's.
    held
        The results of the night's runs.
    products
        The products by id: those of the runs, and others in the store made from the night's frames.
    own
        Sha256 of the night's own frames. A group without any is kept if a run concerned it.

    Returns
    -------
    tuple of Group
        Science first; products and failures outside the planned groups form groups of their own.
    """
    runs = {UUID(ref.id): number for number, ref in held.products}
    left = dict(enumerate(held.failures))
    unplaced = dict(products)
    resulting = []
    for group in groups:
        mine = _of(group, unplaced, runs)
        product = mine[-1] if mine else None
        of_group = _same(group)
        failed = [key for key, (_, failure) in left.items() if of_group(failure)]
        number, failure = left[failed[-1]] if failed else (-1, None)
        for one in mine:
            del unplaced[one.id]
        if product is not None:
            group = _with_product(group, product)
        if failure is not None and (product is None or number > runs.get(product.id, -1)):
            group = _with_failure(group, failure)
        for key in failed:
            del left[key]
        if product is not None or failure is not None or any(one in own for one in group.members):
            resulting.append(group)
    resulting += [_of_product(product, own) for product in unplaced.values()]
    resulting += [
        _with_failure(Group(kind_of(failure), failure.label), failure) for _, failure in left.values()
    ]
    return tuple(sorted(resulting, key=lambda one: (_ORDER.index(one.kind), one.frames[:1], one.label)))


def _of(group: Group, products: Mapping[UUID, NightProduct], runs: Mapping[UUID, int]) -> list[NightProduct]:
    """Return the products of a group's frames; the last one comes from the last run or is the newest."""

    def recent(product: NightProduct) -> tuple[int, float]:
        made = product.made_at.timestamp() if product.made_at is not None else 0.0
        return runs.get(product.id, -1), made

    mine = (p for p in products.values() if p.group_kind == group.kind and p.sources)
    return sorted((p for p in mine if p.sources[0] in group.first), key=recent)


def _same(group: Group) -> Callable[[Failure], bool]:
    return lambda failure: (kind_of(failure), failure.label) == (group.kind, group.label)


def _with_product(group: Group, product: NightProduct) -> Group:
    return replace(group, product=product, state="reused" if product.reused else "built")


def _with_failure(group: Group, failure: Failure) -> Group:
    waits_for = failure.waits_for or ""
    return replace(
        group,
        state="waiting" if waits_for else "failed",
        why=failure.message,
        waits_for=waits_for,
        space=failure.space,
    )


def _of_product(product: NightProduct, own: Collection[str]) -> Group:
    elsewhere = sum(one not in own for one in product.sources)
    group = Group(
        product.group_kind, product.label or product.name, product.inputs, product.sources, elsewhere
    )
    return _with_product(group, product)


def left_out_of(reports: Sequence[NightReport | None], held: Results) -> tuple[LeftOut, ...]:
    """Return what runs left out or did not replace, each once, except what a later run used or replaced."""
    kept: list[LeftOut] = []
    for number, report in enumerate(reports):
        if report is None:
            continue
        later = [ref for run, ref in held.products if run > number]
        used = {name for ref in later for name in ref.inputs}
        made = {KINDS[ref.kind].label for ref in later}  # a kind that could not be made has its label
        for one in report.left_out:
            names = one.name.split(", ")
            if not used.issuperset(names) and one.name not in made:
                kept.append(one)
        replaced = {one.old for later_one in reports[number + 1 :] if later_one for one in later_one.replaced}
        kept += [
            LeftOut(name=one.old, reason=f"not replaced: {one.reason}", remedy=one.remedy)
            for one in report.kept
            if one.old not in replaced
        ]
    kept += [one for _, ref in held.products for one in ref.left_out]
    return tuple(dict.fromkeys(kept))
