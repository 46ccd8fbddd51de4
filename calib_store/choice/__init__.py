"""The choice of a calibration for a frame, and its explanation."""
