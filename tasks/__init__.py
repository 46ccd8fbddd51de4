"""One thin module for each reduction step: its typed input and output models and its Prefect task."""

from calib_store.own_home import ensure_home
from tasks.prefect_internals.loopback_clients import use_no_proxy_for_loopback
from tasks.prefect_internals.settings_sources import forget_working_folder

ensure_home()
forget_working_folder()
use_no_proxy_for_loopback()
