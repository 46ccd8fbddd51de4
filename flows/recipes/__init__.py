"""How the flows make each kind of product: one module for each target, found by the table of kinds."""
