"""The measure of "nothing goes wrong silently": faults that users met, each made on a small night and judged.

``python -m benchmarks.faults``; see `benchmarks.faults.__main__`.
"""
