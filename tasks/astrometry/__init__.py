"""The world coordinates of a stack, fitted within the step of the stack; the algorithms are in `imaging.astrometry`."""
