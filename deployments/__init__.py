"""The service: everything that runs automatically, and the settings of all of nirflow.

`supervisor` keeps every part running; `arrivals` notices complete frames and sends events; `registry` registers what
the Prefect server needs; `deployed` has the flows that it runs. The supervisor and the watcher never import Prefect.
"""

from tasks.prefect_internals.settings_sources import forget_working_folder

forget_working_folder()
