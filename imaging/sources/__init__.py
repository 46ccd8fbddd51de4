"""Sources in a frame: background, detection, positions, sizes and fluxes."""
