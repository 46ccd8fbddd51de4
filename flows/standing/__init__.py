"""Where frames and groups stand: reduced, waiting, or not yet, and what happens next. Pure functions of the store."""
