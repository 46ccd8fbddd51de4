"""Artifacts of steps in the UI: constant keys, literal texts, and tables on the real server."""

from __future__ import annotations

import base64
import io
import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hostile import HOSTILE, harmful, texts
from hypothesis import given
from PIL import Image
from prefect import flow, get_client, runtime, task
from prefect.client.schemas.filters import ArtifactFilter

from calib_store.model.records import Product
from deployments.settings.server_settings import ServerAddress
from imaging.registration.entries import Alignment
from tasks.prefect_internals.heartbeats import prompt_heartbeats
from tasks.support import artifacts
from tasks.support.artifacts import (
    key_of,
    markdown_table,
    plain,
    publish_alignment,
    publish_choice,
    publish_product,
)
from tasks.support.references import LeftOut, ProductRef


@pytest.mark.parametrize(
    ("kind", "label", "key"),
    [
        ("dark", "dark 120 s 2013-11-20", "dark-120-s"),
        ("dark", "dark 120 s 2014-02-01", "dark-120-s"),
        ("flat", "flat J-lo 2013-11-20", "flat-j-lo"),
        ("image", "WISE J0413-4750 Y 2013-11-21", "image-wise-j0413-4750-y"),
        ("night", "2013-11-21", "night"),
        ("image", "M 31 (\N{GREEK SMALL LETTER ALPHA}) / x", "image-m-31-x"),
        ("image", "", "image"),
        ("image", "a" * 300, "image-" + "a" * 94),
        ("image", "a" * 93 + " b" * 9, "image-" + "a" * 93),
    ],
)
def test_a_key_is_the_same_for_all_nights(kind: str, label: str, key: str) -> None:
    assert key_of(kind, label) == key
    assert len(key) <= 100


def test_a_text_is_shown_literally_in_markdown() -> None:
    nasty = "*a* _b_ `c` [d](http://e) <img src=x> #1 | ~2~ {3} \\"
    shown = plain(nasty)
    for sign in "*_`[]<>#|~{}":
        assert shown.count(sign) == shown.count(f"\\{sign}") == nasty.count(sign)
    assert plain("S20131121S0075.fits, 120 s: good") == "S20131121S0075.fits, 120 s: good"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x onerror=alert(1)>", r"\<img src=x onerror=alert(1)\>"),
        ("[x](javascript:alert(1))", r"\[x\](javascript:alert(1))"),
        ("![](http://evil.example/p.png)", r"\!\[\](http\://evil.example/p.png)"),
        ("| a | b", r"\| a \| b"),
        ("a\n\n# b\n- c", r"a\\n\\n\# b\\n- c"),
        ("`code` ``", r"\`code\` \`\`"),
        ("www.evil.example me@evil.example", r"www\.evil.example me\@evil.example"),
        ("&lt;b&gt;", r"\&lt;b\&gt;"),
        ("- item", r"\- item"),
        ("\x1b[31m\u202e\udcff", r"\\x1b\[31m\\u202e\\xff"),
        ("__proto__ n_hot S1_dark.fits", r"\_\_proto\_\_ n_hot S1_dark.fits"),
    ],
)
def test_no_part_of_a_text_is_read_as_markdown(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(texts)
def test_a_table_has_as_many_rows_as_it_was_given(text: str) -> None:
    table = markdown_table(("a", "b"), [(text, 1), (2, text)])
    assert harmful(table) == set()
    assert [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table.split("\n")] == [3] * 4


def product(**changes: Any) -> ProductRef:
    values: dict[str, Any] = {
        "id": str(uuid.uuid4()), "kind": "dark", "name": "S1_dark.fits", "sha256": "0" * 64,
        "recipe_key": "1" * 64, "label": "dark 120 s 2013-11-20", "inputs": ("S1.fits", "S2.fits"),
        "metrics": {"level": 1.234567, "n_hot": 12, "noise": None},
    }  # fmt: skip
    return ProductRef(**values | changes)


@pytest.fixture
def shown(prefect_server: ServerAddress) -> Callable[[Callable[[], None]], dict[str, Any]]:
    """Run a function as a task and return its artifacts by key."""

    def run(publish: Callable[[], None]) -> dict[str, Any]:
        @flow(name="publishing")
        def publishing() -> UUID:
            task(publish, name="step").submit().result()
            return UUID(runtime.flow_run.id)

        with prompt_heartbeats(publishing) as ready:
            run_id = ready()
        of = ArtifactFilter.model_validate({"flow_run_id": {"any_": [run_id]}})
        with get_client(sync_client=True) as client:
            found = client.read_artifacts(artifact_filter=of)
        assert all(one.task_run_id is not None for one in found)
        return {one.key or "": one for one in found}

    return run


def test_a_product_with_its_preview(shown: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    preview = tmp_path / "p.png"
    Image.new("L", (1000, 500), 7).save(preview)
    made = product(
        preview=preview, output=tmp_path / "S1_dark.fits", calibrations=("B_bpm.fits",), warnings=("few *frames*",),
        left_out=(LeftOut(name="S3.fits", reason="it is <bad>"),),
        metrics={"level": 1.234567, "n_hot": 12, "noise": None, "n_odd": 12},
    )  # fmt: skip
    found = shown(lambda: publish_product(made))
    text = found["dark-120-s"].data
    assert "S1_dark.fits from 2 frames" in text
    assert "| level | 1.235 e- |" in text
    assert "| hot | 12 px |" in text
    assert "| n\\_odd" not in text
    assert "| n_odd | 12 |" in text
    assert "noise" not in text
    assert "made with B_bpm.fits" in text
    assert "**warning:** few \\*frames\\*" in text
    assert "left out: S3.fits: it is \\<bad\\>" in text
    picture = text.partition("(data:image/png;base64,")[2].partition(")")[0]
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert image.size == (400, 200)


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_preview_that_cannot_be_read_is_left_out(
    shown: Callable[..., dict[str, Any]], tmp_path: Path, content: bytes | None
) -> None:
    preview = tmp_path / "p.png"
    if content is not None:
        preview.write_bytes(content)
    assert "preview" not in shown(lambda: publish_product(product(preview=preview)))["dark-120-s"].data


def test_a_choice_and_an_alignment(
    shown: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace as Some

    taken = Some(
        product=Product.model_construct(name="A_dark.fits", id=uuid.UUID(int=5), status="certified"),
        taken=True,
        reason="nearest",
    )
    other = Some(
        product=Product.model_construct(name="B_dark.fits", id=uuid.UUID(int=6), status="rejected"),
        taken=False,
        reason="bad",
    )
    match: Any = Some(kind="dark", candidates=(taken, other))
    entry = Some(
        name="S1.fits", dx=1.23456, dy=-2.0, uncertainty=0.012345, used=False, n_matched=9, found_by="stars",
        reason="far",
    )  # fmt: skip
    alignment: Any = Some(entries=(entry,), reference="S0.fits")

    def publish() -> None:
        publish_choice("FIELD Y 2013-11-21", [match])
        publish_alignment("FIELD Y 2013-11-21", alignment)

    found = shown(publish)
    chosen = json.loads(found["calibrations-field-y"].data)
    assert [(row["product"], row["taken"], row["why"]) for row in chosen] == [
        ("A_dark.fits", True, "nearest"),
        ("B_dark.fits", False, "bad"),
    ]
    (row,) = json.loads(found["alignment-field-y"].data)
    assert (row["dx, px"], row["error, px"], row["remark"]) == (1.235, None, "far")
    assert found["alignment-field-y"].description == "FIELD Y 2013-11-21 on S0.fits"


def test_hostile_texts_are_harmless_in_descriptions_and_cells_too(
    shown: Callable[..., dict[str, Any]],
) -> None:
    from types import SimpleNamespace as Some

    image = "<img src=x onerror=alert(1)>"
    candidate = Some(
        product=Product.model_construct(name=image, id=uuid.UUID(int=5), status="certified"),
        taken=False,
        reason=f"[x](javascript:alert(1)) | a\n{HOSTILE}",
    )
    entry = Some(
        name=image,
        dx=1.0,
        dy=1.0,
        uncertainty=0.1,
        used=False,
        n_matched=9,
        found_by="`stars`",
        reason=HOSTILE,
    )
    choice: Any = Some(kind="dark", candidates=(candidate,))
    alignment: Any = Some(entries=(entry,), reference="![](http://evil.example)")

    def publish() -> None:
        publish_choice(image, [choice])
        publish_alignment(image, alignment)
        publish_product(
            product(
                label=f"{image}\n\n# owned", name=f"`{HOSTILE}`", output=Path(f"/x/`{HOSTILE}`"),
                calibrations=(f"`{image}",), warnings=(HOSTILE,), metrics={f"| {image}": f"| {HOSTILE}"},
                left_out=(LeftOut(name=HOSTILE, reason=HOSTILE),),
            )
        )  # fmt: skip

    found = list(shown(publish).values())
    assert len(found) == 3
    for one in found:
        everything = f"{one.description}\n{one.data}"
        if one.type == "table":
            (row,) = json.loads(one.data)
            everything = "\n".join([str(one.description), *(str(cell) for cell in row.values())])
        assert harmful(everything) == set()
        assert re.findall(r"(?<!\\)[<>\[\]`]", everything) == []
        assert "://" not in everything.replace("\\://", "")
        assert not any(line.startswith(("# owned", "INJECTED")) for line in everything.split("\n"))


def test_outside_a_run_nothing_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise AssertionError("an artifact outside of a run")

    monkeypatch.setattr(artifacts, "create_markdown_artifact", refuse)
    monkeypatch.setattr(artifacts, "create_table_artifact", refuse)
    publish_product(product())
    publish_choice("x", [])
    publish_alignment("x", Alignment.model_construct(entries=(), reference=""))
