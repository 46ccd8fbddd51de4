"""What every flow does around its recipe: options, plan, steps in progress, report, products made again."""
