"""The user's own steps called with a stack, in a task of their own."""

from __future__ import annotations

from dataclasses import replace

from imaging.header import Header
from imaging.io.planes import release, write_planes
from imaging.own_steps.applying import VERSION
from imaging.stack.stack import StackResult
from tasks.own_steps.frame_steps import apply_to_planes, own_key
from tasks.own_steps.resolve import OwnSteps
from tasks.support.decorator import step_task
from tasks.support.references import Calibrations, RawFrame, Reference, ScratchRef
from tasks.support.scratching import folder_for, meta, planes_of, scratch_key
from tasks.support.step import timed
from tasks.support.workspace import Workspace


class Headers(Reference):
    """The headers of a stack as cards: keyword, value, comment."""

    header: tuple[tuple[str, str | bool | int | float | None, str], ...]
    primary: tuple[tuple[str, str | bool | int | float | None, str], ...]

    @classmethod
    def of(cls, header: Header, primary: Header) -> Headers:
        """Return the cards of two headers."""
        return cls(
            header=tuple(card[:3] for card in header.cards), primary=tuple(card[:3] for card in primary.cards)
        )


@step_task("own steps", "{names} {label}")
def apply_after_stack(
    names: str, label: str, stack: ScratchRef, headers: Headers, own: OwnSteps, workspace: Workspace
) -> ScratchRef:
    """Call the user's steps with a stack."""
    key = own_key(own, "after_stack", stack.key)
    header, primary = Header(headers.header), Header(headers.primary)
    with timed("after_stack", label):  # its own place is taken by the stack, which waits for it
        return apply_to_planes(
            own, "after_stack", stack, key, header, primary, Calibrations(), None, workspace
        )


def with_own_steps(
    label: str,
    result: StackResult,
    reference: RawFrame,
    header: Header,
    primary: Header,
    key: str,
    own: OwnSteps,
    workspace: Workspace,
) -> StackResult:
    """Return a stack after the user's own steps; the same one without any.

    Parameters
    ----------
    label
        Name of the group.
    result
        The stack.
    reference
        The frame that the others are aligned to.
    header, primary
        Headers of the stack: its world coordinates, and those of the reference.
    key
        Recipe key of the stack.
    """
    if not own.after_stack:
        return result
    key = scratch_key("stack", VERSION, [key])
    folder = folder_for(workspace, key, reference)
    write_planes(folder, {"sci": result.sci, "var": result.var, "dq": result.dq}, meta(key, {}))
    stack = ScratchRef(frame=reference, key=key, folder=folder)
    done = apply_after_stack(
        own.names("after_stack"), label, stack, Headers.of(header, primary), own, workspace
    )
    planes = planes_of(done)
    changed = replace(result, sci=planes.rows("sci"), var=planes.rows("var"), dq=planes.rows("dq"))
    for used in (stack, done):
        release(used.folder)
    return changed
