"""The second pass of the sky in crowded fields, without the light of stars that no mask covers."""
