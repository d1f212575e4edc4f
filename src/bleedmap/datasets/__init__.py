"""CT-ICH, its splits and folds: read, check, download, count."""
