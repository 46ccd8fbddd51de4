"""New raw frames: watching folders, recognising complete files, sending events.

Nothing here imports Prefect.
"""
