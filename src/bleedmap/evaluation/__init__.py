"""Measure a network against reference masks: cross-validation and studies of one's own."""
