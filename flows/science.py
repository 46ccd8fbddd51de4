"""The flow for science: each group of frames detrended, sky-subtracted twice, aligned and stacked."""

from flows.one_kind import flow_of

reduce_science = flow_of(
    "science", "Reduce the science frames in ``paths``, and make the calibrations among them that they need."
)
