"""The containers without a Docker engine: what the files of deployments declare, run in namespaces of the kernel.

Declarations of Docker Compose and Kubernetes are read into the same records; each service runs by its own command, as
its own user, in a root file system that is read-only, with the declared mounts, in a network of its own. This needs
root and Linux, and changes nothing outside its own namespaces and folder.
"""
