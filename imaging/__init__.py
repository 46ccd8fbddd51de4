"""The science: functions on arrays and frames. No Prefect, no SQL, no clock, no network."""

from imaging.blas_threads import limit_blas_threads
from imaging.numba_cache import adjust_numba

limit_blas_threads()
adjust_numba()
