"""The commands of ``nirflow``, one module a subject. Heavy imports happen inside the commands."""
