"""What the steps share: decorator, references, workspace, parameters, artifacts, access to raw files.

No step is imported here.
"""
