"""What a simulated night's own truth allows with optimum weights, and a stack's figures as ratios to it.

The photometry and the background of stacks are compared here; registration and sharpness in the folder above.
"""
