"""What is made, if the user wants it, where the calibration that a frame needs does not exist."""
