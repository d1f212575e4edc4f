"""Training: settings, samples, augmentation, painted bleeds, the loop and the run folder."""
