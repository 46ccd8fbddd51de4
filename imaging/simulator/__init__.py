"""Raw nights made from a known truth, and the comparison of products with it."""
