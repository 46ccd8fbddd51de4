"""Aligned frames combined into one image."""
