"""The page of a night: what the frames allowed, the products and their quality, and what is waiting.

Static files that a browser opens from the disk or over HTTP. `flows.page.write` writes them; `collect`
queries the store, `outcomes` compares the plan with the reports of the runs, `choices` lists the
calibrations, `thumbnails` and `plots` make the pictures, and the templates arrange everything. Nothing here
depends on the orchestrator.
"""
