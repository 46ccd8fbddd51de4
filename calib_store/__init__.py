"""The calibration store: which frames and products there are, which product serves which frame, and why.

`Store` is the door; the other modules are rooms behind it: `rules` (what must match, as data), `matching`
(the choice and its explanation), `frames` and `products` (what is written and read), `objects` (the files),
`database` and `models` (the tables), `postgres` (the embedded server).
"""
