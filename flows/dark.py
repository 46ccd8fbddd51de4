"""The flow for master darks, made from every group of darks that is needed."""

from flows.one_kind import flow_of

reduce_darks = flow_of("dark", "Make the master darks of the raw frames in ``paths``.")
