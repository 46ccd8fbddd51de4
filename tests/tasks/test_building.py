"""A product's recipe: what changes its key, and how its figures are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from calib_store.records import Product
from calib_store.store import Store
from imaging.dark import DarkParameters
from imaging.errors import StoreError
from tasks.building import Ingredient, Recipe, existing, figures
from tasks.references import Calibrations, ProductRef, RawFrame
from tasks.workspace import Workspace

MakeFrame = Callable[..., RawFrame]


def mask(key: str) -> ProductRef:
    return ProductRef(
        id="00000000-0000-0000-0000-000000000001", kind="bpm", name="m.fits", sha256="0" * 64, recipe_key=key,
    )  # fmt: skip


@pytest.fixture
def recipe(raw_frame: MakeFrame) -> Callable[..., Recipe]:
    def make(**changes: Any) -> Recipe:
        values: dict[str, Any] = {
            "kind": "flat", "label": "flat Y", "version": 1,
            "ingredients": [Ingredient("lamp_on", raw_frame("a.fits")), Ingredient("lamp_off", raw_frame("b.fits"))],
            "parameters": {"dark": DarkParameters()},
            "calibrations": Calibrations(bpm=mask("k1")),
        }  # fmt: skip
        return Recipe(**(values | changes))

    return make


def test_the_key_does_not_depend_on_the_label_nor_on_names(
    recipe: Callable[..., Recipe], raw_frame: MakeFrame
) -> None:
    same = [
        Ingredient(role, raw_frame(name).model_copy(update={"sha256": raw_frame(sha).sha256}))
        for role, name, sha in (("lamp_on", "x.fits", "a.fits"), ("lamp_off", "y.fits", "b.fits"))
    ]
    assert recipe(label="other", ingredients=same).key == recipe().key


def test_everything_that_decides_the_pixels_changes_the_key(
    recipe: Callable[..., Recipe], raw_frame: MakeFrame
) -> None:
    a, b = raw_frame("a.fits"), raw_frame("b.fits")
    others = [
        recipe(version=2),
        recipe(kind="bpm"),
        recipe(ingredients=[Ingredient("lamp_off", a), Ingredient("lamp_on", b)]),
        recipe(ingredients=[Ingredient("lamp_on", a)]),
        recipe(ingredients=[Ingredient("lamp_on", a), Ingredient("lamp_off", raw_frame("c.fits"))]),
        recipe(parameters={"dark": DarkParameters(low=2.9)}),
        recipe(calibrations=Calibrations(bpm=mask("k2"))),
        recipe(calibrations=Calibrations()),
        recipe(calibrations=Calibrations(missing=("bpm",))),
        recipe(calibrations=Calibrations(bpm=mask("k1"), overridden=("bpm",))),
    ]
    assert len({recipe().key, *(other.key for other in others)}) == len(others) + 1


def test_what_a_person_rejected_is_not_made_again_because_its_file_was_lost(
    recipe: Callable[..., Recipe], workspace: Workspace, store: Store, add: Callable[..., Product]
) -> None:
    wanted = recipe(kind="dark")
    product = add("dark", recipe_key=wanted.key)
    assert existing(wanted, workspace) == product
    store.set_status(product, "rejected", author="Ana", reason="light leak")
    store.file_of(product).unlink()
    add()  # the place of the files is the right one
    for _ in range(2):  # found damaged, and known to be
        with pytest.raises(StoreError, match=r"was rejected by Ana on .*: light leak"):
            existing(wanted, workspace)
        store.find(wanted.key)
    store.set_status(product, "candidate", author="Ana", reason="a mistake")
    assert existing(wanted, workspace) is None


class _Level(BaseModel):
    value: float = 65.0
    uncertainty: float = 0.2
    reason: str = ""


class _Metrics(BaseModel):
    n_frames: int = 4
    pedestal: _Level = _Level()
    drift: float | None = None
    names: tuple[str, ...] = ("a", "b")


def test_figures_are_flat_and_plain() -> None:
    assert figures(_Metrics()) == {
        "n_frames": 4,
        "pedestal": 65.0,
        "pedestal_uncertainty": 0.2,
        "drift": None,
    }
