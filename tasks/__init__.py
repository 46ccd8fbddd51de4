"""One thin module for each reduction step: its typed input and output models and its Prefect task."""

from tasks.prefect_internals.settings_sources import forget_working_folder

forget_working_folder()
