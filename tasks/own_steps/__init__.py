"""Functions of the user's own as steps: resolved once for a group, then called with the planes of each frame or stack.

The science, without Prefect and the store, is `imaging.own_steps`.
"""
