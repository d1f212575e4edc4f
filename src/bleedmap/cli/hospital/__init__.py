"""The verbs of a hospital's server."""
