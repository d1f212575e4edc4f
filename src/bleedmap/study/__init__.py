"""One study: read, check, segment."""
