"""A store created, upgraded, backed up and restored: for the owner of its database."""
