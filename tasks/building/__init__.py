"""How a product is built or reused: its recipe, ancestors, names and status."""
