"""The sky of dithered or offset frames: the choice of sky frames, the subtraction, and the residual."""
