"""The steps of a mosaic: its stacks chosen, measured, placed and combined. Not the stacks themselves."""
