"""The page of a night: what is good and what is not, what the frames allowed, and what is waiting.

Static files that a browser opens from the disk or over HTTP. `flows.page.write` writes them; `collect`
queries the store, `outcomes` compares the plan with the reports of the runs, `assess` judges the stacks, `choices` has
the calibrations, `thumbnails`, `previews`, `overlay` and `charts` make the pictures, and the templates arrange
everything. Nothing here depends on the orchestrator.
"""
