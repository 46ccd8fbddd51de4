"""The frames of one field in one band: the set, what determines a product of them, and the distortion of the camera.

Stacks have a module of their own.
"""
