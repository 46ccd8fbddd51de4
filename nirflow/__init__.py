"""What a person touches: the command line, settings, log and report."""

__version__ = "0.1.0"
