"""One module a reduction step: its typed input and output models and its Prefect task. Thin."""
