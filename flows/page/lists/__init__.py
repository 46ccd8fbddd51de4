"""The rows of the list of nights, and of the mosaics below it."""
