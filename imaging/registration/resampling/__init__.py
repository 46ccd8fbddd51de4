"""Moving frames onto one grid: interpolants, and the kernels for shifts and for every other transform."""
