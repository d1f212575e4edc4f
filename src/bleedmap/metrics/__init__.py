"""Counts and scores: overlap, lesions, surfaces, calibration, ROC, agreement, intervals."""
