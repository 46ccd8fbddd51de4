"""The distortion of a camera: its polynomial, and its measurement from dithered frames. No resampling, no header."""
