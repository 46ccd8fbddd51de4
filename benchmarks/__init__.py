"""Speed and memory against their limits: a full-size night from the command line, and the combine kernels.

``make bench`` runs everything; ``python -m benchmarks --help`` explains how to run one part.
"""
