"""The user's own steps of a group, imported, checked and identified before anything is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field, JsonValue
from pydantic_core import to_jsonable_python

from calib_store.model.records import Product
from imaging.io.limits import opened
from imaging.own_steps.applying import VERSION
from imaging.own_steps.identity import identity_of
from imaging.own_steps.loading import LoadedStep, load
from imaging.own_steps.named_arguments import check_references, is_file, is_outside
from imaging.own_steps.registered import OwnStepError
from imaging.own_steps.uses import POINTS, OwnStepParameters, Point, StepUse, step_summary
from tasks.support.decorator import step_task
from tasks.support.references import NamedProduct, Reference
from tasks.support.workspace import Workspace

#: Version of the checks of what steps return, for the stacks that they had a part in.
OWN_STEPS_VERSION: Final = VERSION
#: Steps that were checked in this process, by their description.
_loaded: Final[dict[str, LoadedStep]] = {}


class Outside(Reference):
    """A product or file that an argument names, which is the same for all frames."""

    name: str = Field(description="as the user named it")
    sha256: str
    path: Path | None = Field(default=None, description="a file; None: a product of the store")
    product: NamedProduct | None = Field(
        default=None, description="the product of the store with this content, if there is one"
    )


class OwnStep(Reference):
    """One step as it is called."""

    use: StepUse
    name: str
    bit: int
    time_limit: float | None
    arguments: dict[str, JsonValue] = Field(description="with the defaults of the step's model")
    identity: dict[str, JsonValue] = Field(description="its source and the versions that it runs with")
    outside: dict[str, Outside] = Field(default_factory=dict, description="by argument")

    def values(self) -> dict[str, Any]:
        """Return everything that determines what the step does, as JSON values; the time limit does not."""
        contents = {name: one.sha256 for name, one in self.outside.items()}
        return {**self.identity, "arguments": self.arguments} | ({"contents": contents} if contents else {})

    def loaded(self) -> LoadedStep:
        """Return the step ready to be called in this process, which may be another machine's.

        Raises
        ------
        OwnStepError
            If its source or versions are others here than where the run began.
        """
        key = self.model_dump_json()
        if key in _loaded:
            return _loaded[key]
        step = load(self.use, self.time_limit)
        here = identity_of(step)
        if here != self.identity:
            parts = here.keys() | self.identity.keys()
            changed = sorted(one for one in parts if here.get(one) != self.identity.get(one))
            raise OwnStepError(
                f"The step {self.use.function} has changed since the run began: {', '.join(changed)}.",
                remedy="Reduce again once nothing changes it; all machines of a cluster need the same packages.",
            )
        return _loaded.setdefault(key, step)

    @property
    def summary(self) -> str:
        """The step in one line, with its package and version."""
        return step_summary(self.use, self.identity)


class OwnSteps(Reference):
    """The user's own steps of a group, by point."""

    parameters: OwnStepParameters = OwnStepParameters()
    after_detrend: tuple[OwnStep, ...] = ()
    before_sky: tuple[OwnStep, ...] = ()
    before_stack: tuple[OwnStep, ...] = ()
    after_stack: tuple[OwnStep, ...] = ()

    def at(self, point: Point) -> tuple[OwnStep, ...]:
        """Return the steps that are called at a point."""
        steps: tuple[OwnStep, ...] = getattr(self, point)
        return steps

    def names(self, point: Point) -> str:
        """Return the names of the steps at a point, for the Prefect UI."""
        return ", ".join(step.name for step in self.at(point))

    def values(self) -> dict[str, Any]:
        """Return what identifies the steps, as JSON values, by point; empty without steps."""
        return {point: [step.values() for step in self.at(point)] for point in POINTS if self.at(point)}

    def key(self, point: Point) -> str:
        """Return what identifies the steps at a point as text."""
        return json.dumps([step.values() for step in self.at(point)], sort_keys=True)

    @property
    def products(self) -> tuple[NamedProduct, ...]:
        """The products of the store that arguments name, each once."""
        steps = [step for point in POINTS for step in self.at(point)]
        found = [one.product for step in steps for one in step.outside.values() if one.product is not None]
        return tuple({one.id: one for one in found}.values())

    def cards(self) -> dict[str, str]:
        """Return the cards of a product's header: one for each step, in the order of the points."""
        lines = [f"{point}: {step.summary}" for point in POINTS for step in self.at(point)]
        return {f"NFSTEP{n}": line for n, line in enumerate(lines[:99], start=1)}


#: No steps of the user's own.
NO_OWN_STEPS: Final = OwnSteps()


@step_task("own steps", "own steps of {label}")
def find_own_steps(label: str, parameters: OwnStepParameters, workspace: Workspace) -> OwnSteps:
    """Import and check the functions that the user named for a group, and identify them.

    Raises
    ------
    OwnStepError
        If one cannot be imported or called as requested.
    """
    return resolve_own_steps(parameters, workspace)


def resolve_own_steps(parameters: OwnStepParameters, workspace: Workspace) -> OwnSteps:
    """Return the steps with their identities, and the products and files that their arguments name."""
    identities: dict[str, dict[str, Any]] = {}
    points = {
        point: tuple(_resolved(use, point, parameters, workspace, identities) for use in parameters.at(point))
        for point in POINTS
    }
    return OwnSteps.model_validate({"parameters": parameters.resolved(), **points})


def _resolved(
    use: StepUse,
    point: Point,
    parameters: OwnStepParameters,
    workspace: Workspace,
    identities: dict[str, dict[str, Any]],
) -> OwnStep:
    check_references(use, point)
    step = load(use, parameters.time_limit)
    # Identifying a function means reading its package: once for all points.
    key = f"{use.function} {step.bit}"
    identity = identities[key] if key in identities else identities.setdefault(key, identity_of(step))
    outside = {
        argument: _outside(name, use, workspace)
        for argument, name in use.references.items()
        if is_outside(name)
    }
    arguments: Mapping[str, Any] = to_jsonable_python(dict(step.arguments))
    return OwnStep(
        use=use, name=step.name, bit=step.bit, time_limit=step.time_limit, arguments=dict(arguments),
        identity=identity, outside=outside,
    )  # fmt: skip


def _outside(name: str, use: StepUse, workspace: Workspace) -> Outside:
    if not is_file(name):
        product = workspace.store().get(name)
        return Outside(name=name, sha256=product.sha256, product=_not_rejected(product, use))
    path = Path(name).expanduser().absolute()
    sha256 = sha256_of(path, use)
    same = [one for one in workspace.store().named(sha256) if one.sha256 == sha256]
    copied = next((one for one in same if one.status != "rejected"), next(iter(same), None))
    known = None if copied is None else _not_rejected(copied, use)
    return Outside(name=name, sha256=sha256, path=path, product=known)


def _not_rejected(product: Product, use: StepUse) -> NamedProduct:
    if product.status == "rejected":
        raise OwnStepError(
            f"{product.name}, which the step {use.function} uses, was rejected.",
            remedy="Name another product, or reinstate it: nirflow cal reinstate.",
        )
    return NamedProduct(id=str(product.id), name=product.name, sha256=product.sha256)


def sha256_of(path: Path, use: StepUse) -> str:
    """Return the sha256 of a file that an argument names.

    Raises
    ------
    OwnStepError
        If it cannot be read.
    """
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise OwnStepError(
            f"{path}, which the step {use.function} uses, cannot be read: {error.strerror or error}.",
            remedy="Correct the path, or let this account read the file.",
        ) from error
