"""A product's recipe: what changes its key, and which products it finds in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from raw_files import SCIENCE, SHAPE, raw_bytes

from calib_store.curation.certify import certify
from calib_store.exchange.acceptance import check_readable
from calib_store.exchange.recipe_check import expected_key
from calib_store.model.records import InputRef, Product, Tier
from calib_store.model.values import OWN_STEP
from calib_store.store import Store
from flows.run.redo import redo_of
from flows.run.remake_plan import plan_remakes
from imaging.calibrations.compare import GateParameters
from imaging.calibrations.dark import DarkParameters
from imaging.errors import FrameError, StoreError
from imaging.frames.find_files import CheckParameters
from imaging.header import Header
from imaging.io.raw_file import read_headers
from imaging.pixels.image import Image
from imaging.products.product_file import read_table
from imaging.products.product_tables import stamped
from tasks.building.build import Built, existing, find_or_build
from tasks.building.recipe import Ingredient, Recipe, rejected_meanwhile
from tasks.support.parameters import ReductionParameters
from tasks.support.references import Calibrations, LeftOut, NamedProduct, ProductRef, RawFrame
from tasks.support.workspace import Workspace
from tasks.survey import survey_frames

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
            "calibrations": Calibrations(present=(mask("k1"),)),
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
        recipe(calibrations=Calibrations(present=(mask("k2"),))),
        recipe(calibrations=Calibrations()),
        recipe(calibrations=Calibrations(missing=("bpm",))),
        recipe(calibrations=Calibrations(present=(mask("k1"),), overridden=("bpm",))),
    ]
    assert len({recipe().key, *(other.key for other in others)}) == len(others) + 1


def test_a_product_rejected_by_a_user_is_not_made_again_when_its_file_is_lost(
    recipe: Callable[..., Recipe], workspace: Workspace, store: Store, add: Callable[..., Product]
) -> None:
    wanted = recipe(kind="dark")
    product = add("dark", recipe_key=wanted.key)
    assert existing(wanted, workspace) == product
    store.set_status(product, "rejected", author="Ana", reason="light leak")
    store.file_of(product).unlink()
    add()  # establishes the folder of the files
    for _ in range(2):  # found damaged the first time, then known to be
        with pytest.raises(StoreError, match=r"was rejected by Ana on .*: light leak"):
            existing(wanted, workspace)
        store.find(wanted.key)
    store.set_status(product, "candidate", author="Ana", reason="a mistake")
    assert existing(wanted, workspace) is None


# Frames that are requested and not used


@pytest.fixture
def group(tmp_path: Path, workspace: Workspace) -> tuple[RawFrame, ...]:
    """Five science frames recorded in the store."""
    paths = [tmp_path / f"S20131121S000{n}.fits" for n in range(5)]
    for n, path in enumerate(paths):
        path.write_bytes(raw_bytes(n, SCIENCE))
    return survey_frames.fn(paths, "night", CheckParameters(shape=SHAPE), workspace).frames


def made(
    group: tuple[RawFrame, ...],
    workspace: Workspace,
    kind: Any = "image",
    primary: Header | None = None,
    **built: Any,
) -> tuple[ProductRef, Product, Recipe]:
    """Return a product of all frames of a group."""
    role = "science" if kind == "image" else kind
    recipe = Recipe(
        kind, "group", 1, [Ingredient(role, frame) for frame in group], {"dark": DarkParameters()}
    )
    plane = np.ones(SHAPE, np.float32)
    primary = primary or read_headers(group[0].path)[0]
    image = Image(plane, plane, np.zeros(SHAPE, np.uint16), Header(), primary)
    quiet = workspace.model_copy(update={"previews": False})
    found: Any = find_or_build(recipe, lambda: Built(image, {}, **built), quiet)
    ref = found if isinstance(found, ProductRef) else found.data
    return ref, workspace.store().get(ref.uuid), recipe


def test_a_product_that_could_not_be_read_again_is_not_kept(
    group: tuple[RawFrame, ...], workspace: Workspace
) -> None:
    whole = read_headers(group[0].path)[0]
    unreadable = Header(card for card in whole.cards if card.keyword != "EXPTIME")
    with pytest.raises(FrameError, match=r"S20131121S0000_image\.fits: was made but cannot .*EXPTIME"):
        made(group, workspace, primary=unreadable)
    assert workspace.store().products() == ()
    ref, _, _ = made(group, workspace)
    assert not ref.reused


def test_a_product_that_reads_back_as_something_else_is_refused(
    group: tuple[RawFrame, ...], workspace: Workspace
) -> None:
    _, product, _ = made(group, workspace, "dark")
    path = workspace.store().file_of(product)
    with pytest.raises(FrameError, match="was made as an image but reads back as a dark, so it was not kept"):
        check_readable(path, "image")
    with fits.open(path) as hdus:
        fits.HDUList([hdu for hdu in hdus if hdu.name != "VAR"]).writeto(path.with_name("x.fits"))
    with pytest.raises(FrameError, match="was made as a dark but reads back without VAR, so it was not kept"):
        check_readable(path.with_name("x.fits"), "dark")


def test_products_that_arguments_of_own_steps_name_are_ancestors_and_change_no_key(
    group: tuple[RawFrame, ...], workspace: Workspace
) -> None:
    store = workspace.store()
    first, named, _ = made(group, workspace, "dark")
    reference = NamedProduct(id=first.id, name=first.name, sha256=first.sha256)
    frames = [Ingredient("science", frame) for frame in group]
    plain = Recipe("image", "group", 1, frames, {"dark": DarkParameters()}, own_steps={"after_stack": []})
    recipe = replace(plain, named=(reference,))
    assert recipe.key == plain.key
    plane = np.ones(SHAPE, np.float32)
    image = Image(plane, plane, np.zeros(SHAPE, np.uint16), Header(), read_headers(group[0].path)[0])
    found: Any = find_or_build(
        recipe, lambda: Built(image, {}), workspace.model_copy(update={"previews": False})
    )
    stack = store.get(found.uuid)
    assert InputRef(OWN_STEP, named.id) in store.inputs_of(stack)
    assert stack in store.affected(named)
    rows = read_table(store.file_of(stack), "LINEAGE")
    assert (named.name, named.sha256, OWN_STEP) in {(one["file"], one["sha256"], one["role"]) for one in rows}
    # A store to which it is copied confirms its key without the argument's product.
    checked = expected_key(
        "image", stack.sha256, store.inputs_of(stack), {}, stack.parameters, stack.algorithm_version,
        metrics=stack.metrics, provisional=None,
    )  # fmt: skip
    assert checked == stack.recipe_key
    store.set_status(named, "rejected", author="Ana", reason="light leak")
    (late,) = rejected_meanwhile(recipe, workspace)
    assert late.startswith(f"made with {named.name} was rejected by Ana")
    redo = redo_of(store, named.name)
    plan = plan_remakes(redo, group, redo.frames, ReductionParameters())
    assert plan.remakes == []
    assert "an argument of its own steps names a product that is rejected" in plan.kept[0].reason


def roles(product: Product, workspace: Workspace) -> list[tuple[str, str]]:
    return [(one.role, str(one.source)) for one in workspace.store().inputs_of(product)]


def test_a_product_records_the_frames_that_are_in_it(
    group: tuple[RawFrame, ...], workspace: Workspace
) -> None:
    names = [frame.name for frame in group]
    left_out = tuple(LeftOut(name=name, reason="cloud") for name in (names[0], names[3], names[4]))
    ref, product, recipe = made(
        group, workspace, combined=(names[1], names[2]), skies=(names[0], names[1], names[2]), left_out=left_out
    )  # fmt: skip
    facts = [frame.facts for frame in group]
    assert product.span == (facts[1].started, facts[2].ended)
    assert product.facts["data_label"] == facts[1].data_label
    assert roles(product, workspace) == [
        ("science", group[1].sha256), ("science", group[2].sha256), ("sky", group[0].sha256),
    ]  # fmt: skip
    assert ref.inputs == tuple(names[:3])
    assert [one.name for one in ref.left_out] == [names[0], names[3], names[4]]
    assert product.metrics["unused"] == [group[3].sha256, group[4].sha256]
    assert "unused" not in ref.metrics
    path = workspace.store().file_of(product)
    header = fits.getheader(path)
    assert (header["NCOMBINE"], header["IMCMB001"], header["DATALAB"]) == (2, names[1], "label-000001-IMAGE")
    assert (header["DATE-BEG"], header["DATE-END"]) == (stamped(facts[1].started), stamped(facts[2].ended))
    for table, column in (("LINEAGE", "file"), ("PROVENANCE", "filename")):
        rows = read_table(path, table)
        assert rows is not None
        assert [str(name) for name in rows[column]] == [names[1], names[2], names[0]]
    # The request is the same, so a rerun finds the product, with the same report.
    assert existing(recipe, workspace) == product
    again, _, _ = made(group, workspace)
    assert (again.reused, again.inputs, again.left_out) == (True, ref.inputs, ref.left_out)
    # A frame that is not in the product cannot affect it.
    store = workspace.store()
    (unused,) = store.frames.with_sha256s([group[4].sha256]).values()
    (sky,) = store.frames.with_sha256s([group[0].sha256]).values()
    assert store.affected(unused) == ()
    assert [one.id for one in store.affected(sky)] == [product.id]


def test_a_dark_that_leaves_frames_out_records_the_others(
    group: tuple[RawFrame, ...], workspace: Workspace
) -> None:
    names = [frame.name for frame in group]
    _, product, _ = made(group, workspace, "dark", combined=tuple(names[:4]))
    assert roles(product, workspace) == [("dark", frame.sha256) for frame in group[:4]]
    assert product.span[1] == group[3].facts.ended
    assert fits.getheader(workspace.store().file_of(product))["NCOMBINE"] == 4


def test_a_redo_takes_the_frames_that_were_left_out_as_well(
    group: tuple[RawFrame, ...], workspace: Workspace
) -> None:
    _, _, recipe = made(group, workspace, combined=tuple(frame.name for frame in group[:4]))
    store = workspace.store()
    (bad,) = store.frames.with_sha256s([group[0].sha256]).values()
    store.frames.set_status(bad, "rejected", author="Ana", reason="cloud")
    assert redo_of(store, bad.name).frames.keys() == {i.frame.sha256 for i in recipe.ingredients}


def test_frames_that_were_left_out_are_in_the_header_with_their_reasons(
    group: tuple[RawFrame, ...], workspace: Workspace
) -> None:
    names = [frame.name for frame in group]
    out = (
        LeftOut(name=names[4], reason="unlike the other frames of its set: level +500.1 e- " + 20 * "long "),
        LeftOut(name=names[3], reason="not used as sky", expected=True),
    )
    _, product, _ = made(group[:3], workspace, "dark")
    assert "NFOUT" not in fits.getheader(workspace.store().file_of(product))
    _, product, _ = made(group, workspace, "dark", combined=tuple(names[:4]), left_out=out)
    header = fits.getheader(workspace.store().file_of(product))
    assert header["NFOUT"] == 1
    assert header["NFOUT1"] == f"{names[4]}: {out[0].reason}".strip()
    assert "NFOUT2" not in header


def test_a_product_whose_frames_disagree_is_never_certified_automatically(
    group: tuple[RawFrame, ...], workspace: Workspace
) -> None:
    """Neither without a certified one to compare with, nor if it is like the certified one."""
    gate = GateParameters(certify=True)
    place = workspace.model_copy(
        update={"parameters": workspace.parameters.model_copy(update={"gate": gate})}
    )
    store = workspace.store()
    doubt = "the darks differ in level"
    ref, first, _ = made(group[:3], place, "dark", doubts=(doubt,), warnings=(doubt,))
    assert (first.status, first.doubtful, first.disputed, first.tier) == (
        "candidate",
        True,
        True,
        Tier.DOUBTFUL,
    )
    assert ref.warnings == (doubt, f"it is doubtful: {doubt}")
    with pytest.raises(StoreError, match=f"is doubtful: {doubt}"):
        certify(store, first, author="Ana", reason="good")
    _, good, _ = made(group[1:4], place, "dark")
    assert not good.doubtful
    certify(store, good, author="Ana", reason="good")
    _, second, _ = made(group[2:], place, "dark", doubts=(doubt,), warnings=(doubt,))
    assert (second.status, second.disputed) == ("candidate", True)
    assert second.gate is not None
    assert second.gate["reasons"] == [doubt]
    assert second.gate["figures"]["pixels"] > 0
