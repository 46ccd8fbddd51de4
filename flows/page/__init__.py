"""The page of a night: what the frames allowed, what was made of them, how good it is, and what waits.

Static files that a browser opens from the disk or over HTTP. `flows.page.write` writes them; `collect` asks the
store, `outcomes` puts the plan beside what the runs told, `choices` tells the calibrations, `thumbnails` and `plots`
make the pictures, and the templates lay it out. Nothing here knows the orchestrator.
"""
