"""bleedmap: intracranial hemorrhage on head CT, found and outlined. Research software, not a medical device."""

__version__ = "0.1.0"
