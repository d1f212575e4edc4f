"""Studies from a server or a bucket, and results back to it."""
