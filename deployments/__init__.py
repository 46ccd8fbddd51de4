"""The service: everything that runs automatically, and the settings of all of nirflow.

`supervisor` keeps every part up; `arrivals` notices complete frames and sends events; `registry` is what the Prefect
server knows; `deployed` has the flows that it runs. The supervisor and the watcher stay up and never import Prefect.
"""

from tasks.prefect_internals.settings_sources import forget_working_folder

forget_working_folder()
