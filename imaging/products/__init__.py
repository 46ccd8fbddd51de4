"""The files of products: layout, headers, tables, previews, and their place in the output folder.

The pixels of a product belong to its step.
"""
