"""The files of products, by the sha256 of their content: in a folder or in an object store."""
