"""Stacks combined with each other: several nights of one field, or fields next to each other. Not the stack itself."""
