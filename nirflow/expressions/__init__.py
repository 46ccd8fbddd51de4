"""The language of expressions about frames and products: parser, syntax tree and names."""
