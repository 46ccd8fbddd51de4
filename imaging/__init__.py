"""The science: functions on arrays and frames. No Prefect, no SQL, no clock, no network."""

from imaging.numba_cache import adjust_numba

adjust_numba()
