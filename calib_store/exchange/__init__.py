"""Products in and out: from another store, from other software, and to another store."""
