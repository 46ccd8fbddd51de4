"""What all flows have in common: options, plan, steps in progress, report, products made again."""
