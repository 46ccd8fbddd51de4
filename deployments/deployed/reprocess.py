"""The flow that makes products again after a bad product or raw frame, or a change of the rules."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from prefect import flow
from prefect.states import Completed, State

from calib_store.model.records import Frame
from calib_store.store import Store
from calib_store.tables import decisions
from calib_store.tables.rulebook import rules_of
from deployments.arrivals.selection import frames_of_sequence
from deployments.deployed.common import (
    ended,
    name_of_run,
    options_of,
    place_of,
    reduce_frames,
    store_of,
    working,
    write_pages,
)
from deployments.deployed.disk_space import again_with_space
from deployments.deployed.requests import ReprocessRequest
from deployments.settings.all_settings import Settings
from deployments.status.store_facts import middle_of
from flows.run.redo import NothingAffectedError, redo_of
from flows.run.report import NightReport
from flows.run.run import reduce_with
from imaging.frames.sequences import Sequence, night_in
from tasks.support.step_runner import step_runner


@flow(name="reprocess", flow_run_name=name_of_run("reprocess"), task_runner=step_runner())
@again_with_space
def reprocess(request: ReprocessRequest) -> State[NightReport]:
    """Make again products made with something bad, or with calibrations that the current rules would not choose.

    Parameters
    ----------
    request
        A rejected product or raw frame, or a previous version of the rules.

    Returns
    -------
    NightReport
        What was made. None if no product that counts is affected.

    Raises
    ------
    NirflowError
        If the product or frame does not exist or is still valid, or the store never had such rules.
    """
    settings = Settings()
    store = store_of(settings)
    if request.affected_by is not None:
        try:
            frames = redo_of(store, request.affected_by).frames.values()
        except NothingAffectedError as error:
            return Completed(message=str(error))  # the watcher, or another run, was faster
        nights = sorted({frame.facts.night for frame in frames if frame.facts is not None})
        options = options_of(settings, affected_by=request.affected_by)
        out, options = place_of(settings, nights, options)
        with working(settings, nights, request.affected_by):
            report = reduce_with((), out, options, request.affected_by)
        write_pages(settings, nights)
        return ended(report)
    version = request.rules_version
    assert version is not None
    names = list(sequences_with_other_choices(store, version))
    if not names:
        return Completed(
            message=f"The current rules choose the same calibrations as {version} for all frames. "
            "To see the rules of a choice: nirflow cal explain FRAME."
        )

    def choose() -> list[Frame]:
        return [frame for name in names for frame in frames_of_sequence(store, name)]

    nights = sorted({night_in(name) for name in names})
    options = options_of(settings, only=("science",))
    return ended(reduce_frames(settings, choose, nights, options))


def sequences_with_other_choices(store: Store, version: str) -> dict[str, tuple[Frame, ...]]:
    """Return the science sequences for which the current rules choose another product than ``version`` did.

    A choice is made for a complete group, and recorded for each of its frames: it is compared, and repeated, for the
    group.

    Returns
    -------
    dict
        All frames of each sequence, by its name.

    Raises
    ------
    StoreError
        If the store never had such rules.
    """
    store.database.read(lambda connection: rules_of(connection, version))
    last = store.database.read(lambda connection: decisions.last_by_rules(connection, version))
    known = store.frames.with_sha256s({row.frame_sha256 for row in last})
    chosen: dict[str, dict[str, set[UUID | None]]] = defaultdict(lambda: defaultdict(set))
    for row in last:
        facts = known[row.frame_sha256].facts
        sequence = Sequence.of(facts) if facts is not None and facts.kind == "object" else None
        if sequence is not None:
            chosen[sequence.name][row.kind].add(row.product_id)
    found = {}
    for name, kinds in sorted(chosen.items()):
        frames = frames_of_sequence(store, name)
        middle = middle_of(frames)
        if middle is None:
            continue
        now = {kind: store.match(middle, kind).product for kind in kinds}
        if any(one is not None and kinds[kind] != {one.id} for kind, one in now.items()):
            found[name] = frames
    return found
