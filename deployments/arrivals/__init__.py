"""New raw frames: folders watched, complete files noticed, events announced.

Nothing here imports Prefect.
"""
