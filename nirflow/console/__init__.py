"""Output for a user at a terminal: messages, tables, progress, logs and the report of a reduction."""
