"""The 2021 thesis' experiment, run again: plan, runs, analyses, baselines, report."""
