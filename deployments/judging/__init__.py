"""The judge: measures each frame as it becomes complete, next to the watcher and independently of it.

Nothing here imports Prefect, and nothing here is needed for a reduction: a frame that cannot be judged is reported and
nothing else changes.
"""
