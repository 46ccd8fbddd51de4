"""The sky of dithered or offset frames: which frames show it, its subtraction, and what that leaves."""
