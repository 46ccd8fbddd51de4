"""What is wrong with a table, and on which of its lines: errors with a place, and checks of its meaning."""
