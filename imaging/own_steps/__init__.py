"""Functions of the user's own as steps: how they are named, found, identified, called and checked.

Each takes a frame or stack as astropy's CCDData and returns it. What Prefect and the store add is in `tasks.own_steps`.
"""
