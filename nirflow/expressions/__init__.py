"""The language of expressions about frames and products: parser, tree and names."""
