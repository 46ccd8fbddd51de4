"""The catalogue of reference stars that comes with a simulated night: true magnitudes, and what a survey lists."""
