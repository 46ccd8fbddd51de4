"""The Prefect server of nirflow: start, discovery and stop, and the application that it serves."""
