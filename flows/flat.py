"""The flow for master flats, each of which needs a bad pixel mask."""

from flows.one_kind import flow_of

reduce_flats = flow_of(
    "flat", "Make the flats of the raw frames in ``paths``, and the bad pixel mask that they need."
)
