"""External validation: measure a network on studies of one's own, against masks, labels or boxes."""
