"""World coordinates of a stack from a reference catalogue: stars matched, a TAN WCS fitted, distortions if needed."""
