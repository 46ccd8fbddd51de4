"""The calibration store: frames, products, lineage and decisions in Postgres, files by their content."""
