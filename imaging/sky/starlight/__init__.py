"""The light of stars outside the masks in crowded fields: measured in a stack, and kept out of the frames' skies."""
