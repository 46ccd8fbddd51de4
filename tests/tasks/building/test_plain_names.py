"""Which product gets the plain name in the output folder, and how an image names its calibrations."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from raw_files import SCIENCE, SHAPE, raw_bytes

from imaging.calibrations.dark import DarkParameters
from imaging.header import Header
from imaging.io.raw_file import read_headers
from imaging.pixels.image import Image
from imaging.products.placing import recipe_key_in
from tasks.building.build import Built, find_or_build
from tasks.building.recipe import Ingredient, Recipe
from tasks.dark import build_dark
from tasks.support.references import Calibrations, FrameSet, ProductRef, Survey
from tasks.support.workspace import Workspace

Look = Callable[..., Survey]


def product_of(made: Any) -> ProductRef:
    return made if isinstance(made, ProductRef) else made.data


def dark_of(seen: Survey, workspace: Workspace, **parameters: Any) -> ProductRef:
    frames = FrameSet(label="dark", frames=seen.frames)
    return product_of(build_dark.fn(frames, DarkParameters(**parameters), workspace))


def path_of(ref: ProductRef) -> Path:
    assert ref.output is not None
    return ref.output


def rejected(path: Path, workspace: Workspace) -> None:
    frames = workspace.store().frames
    (frame,) = frames.named(path.name)
    frames.set_status(frame, "rejected", author="Ana", reason="light leak")


def test_a_clean_product_takes_the_plain_name_from_one_with_a_rejected_frame(
    look: Look, workspace: Workspace, raw: list[Path]
) -> None:
    old = dark_of(look(raw), workspace)
    plain, content, picture = path_of(old), path_of(old).read_bytes(), old.preview
    assert picture is not None
    preview = picture.read_bytes()
    rejected(raw[3], workspace)
    new = dark_of(look(raw), workspace)
    assert path_of(new) == plain
    assert recipe_key_in(plain) == new.recipe_key
    kept = plain.with_name(f"{plain.stem}_{old.recipe_key[:8]}.fits")
    assert kept.read_bytes() == content
    assert kept.with_suffix(".png").read_bytes() == preview
    assert new.preview == plain.with_suffix(".png")
    assert sorted(path.name for path in plain.parent.iterdir()) == sorted(
        path.with_suffix(suffix).name for path in (plain, kept) for suffix in (".fits", ".png")
    )


def test_a_superseded_product_gives_up_the_plain_name(
    look: Look, workspace: Workspace, raw: list[Path]
) -> None:
    old = dark_of(look(raw), workspace)
    store = workspace.store()
    store.set_status(store.get(old.uuid), "superseded", author="Ana", reason="a better one")
    new = dark_of(look(raw), workspace, high=3.0)
    assert path_of(new).name == new.name == old.name


def test_valid_products_keep_their_names_and_a_run_as_of_the_past_takes_none(
    look: Look, workspace: Workspace, raw: list[Path]
) -> None:
    first = dark_of(look(raw), workspace)
    other = dark_of(look(raw), workspace, high=3.0)
    assert path_of(other).name == f"S20131121S0000_dark_{other.recipe_key[:8]}.fits"
    then = datetime.now(UTC)
    rejected(raw[3], workspace)
    past = dark_of(look(raw[:3]), workspace.model_copy(update={"as_of": then}))
    assert path_of(past) != path_of(first)
    assert recipe_key_in(path_of(first)) == first.recipe_key


def test_an_image_names_its_dark_by_its_key(look: Look, workspace: Workspace, raw: list[Path]) -> None:
    """Two parameter sets in one folder: the dark with the plain name comes from the other run."""
    first, second = (dark_of(look(raw), workspace, high=high) for high in (4.0, 3.0))
    assert first.name == second.name
    science = raw[0].with_name("S20131121S0075.fits")
    science.write_bytes(raw_bytes(50, SCIENCE))
    (frame,) = look([science]).frames
    plane = np.ones(SHAPE, np.float32)
    image = Image(plane, plane, np.zeros(SHAPE, np.uint16), Header(), read_headers(science)[0])
    recipe = Recipe("image", "FIELD", 1, [Ingredient("science", frame)], {}, Calibrations(present=(second,)))
    quiet = workspace.model_copy(update={"previews": False})
    made = product_of(find_or_build(recipe, lambda: Built(image, {}), quiet))
    header = fits.getheader(path_of(made))
    assert header["DARKIM"] == second.name
    found = [p for p in workspace.out.glob("*_dark*.fits") if recipe_key_in(p) == header["DARKKEY"]]
    assert found == [path_of(second)]
    assert path_of(first).name == header["DARKIM"]  # so the name alone is not sufficient
