"""Access to the Prefect server: the layers between the network and Prefect, roles, passwords, sessions."""
