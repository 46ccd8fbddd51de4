"""What is up, what arrives, waits and runs, and how much disk is left: without Prefect, and without changes."""
