"""A trained network on slices: weights, backends, the outline and how sure it is."""
