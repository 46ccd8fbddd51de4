"""The commands of ``nirflow``, one module per subject. Heavy imports happen inside the commands."""
