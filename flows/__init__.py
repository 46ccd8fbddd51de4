"""The recipes as flows: dark, bpm, flat, science and night."""

from tasks.prefect_internals.settings_sources import forget_working_folder

forget_working_folder()
