"""Nights with a real sky: each disturbance alone and several together, judged by what the night allows."""
