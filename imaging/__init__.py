"""The science: functions on arrays and frames. No Prefect, no SQL, no clock, no network."""
