"""The files of products: their layout, headers, tables, previews, and their place in the output folder.

How a product's pixels are made belongs to its step.
"""
