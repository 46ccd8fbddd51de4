"""How well frames that differ from the others of their set are found, and how often good ones are left out.

``python -m benchmarks.peers`` prints both; ``--write`` updates the tables and the picture of ``docs/peers.md``.
"""
