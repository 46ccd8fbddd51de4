"""The pages that nirflow serves next to Prefect's UI: nights and the calibration store."""
