"""Queries over the figures of many products: what the pages of trends show. Single products are read elsewhere."""
