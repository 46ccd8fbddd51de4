"""Who may ask the Prefect server for what: the layers between the network and Prefect, roles, passwords, sessions."""
