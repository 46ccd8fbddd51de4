"""Dark, bpm, flat, science and night: each reads like the recipe it is."""
