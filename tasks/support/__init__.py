"""What the steps share: decorator, references, workspace, parameters, artifacts, access to raw files.

Nothing here imports a step.
"""
