"""A product built or found again: its recipe, its ancestors, its names and its status."""
