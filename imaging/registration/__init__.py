"""Where frames lie on each other, and how they are resampled onto one grid."""
