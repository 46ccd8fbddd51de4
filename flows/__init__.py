"""Dark, bpm, flat, science and night: each reads like the recipe it is."""

from tasks.prefect_internals.settings_sources import forget_working_folder

forget_working_folder()
