"""Facts read from headers of real files, compared with the records of their archive."""
