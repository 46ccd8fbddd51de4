"""What runs beside and by itself: settings, the Prefect server, the supervisor, the watcher, the deployed flows.

`service` and `supervise` keep everything up; `watcher` notes whole frames and tells the server; `registry` is what
the server knows; `nightly`, `arrival`, `reprocess` and `housekeeping` are the flows that it runs. What stays up
beside the server (supervisor, watcher) never imports Prefect.
"""

from tasks.prefect_sources import forget_working_folder

forget_working_folder()
