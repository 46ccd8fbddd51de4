"""The positions of frames relative to each other, and their resampling onto one grid."""
