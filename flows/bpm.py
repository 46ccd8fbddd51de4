"""The flow for bad pixel masks, made from lamp flats and short darks."""

from flows.one_kind import flow_of

reduce_bpm = flow_of("bpm", "Make the bad pixel mask of the raw flats and short darks in ``paths``.")
