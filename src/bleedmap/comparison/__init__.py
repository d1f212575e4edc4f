"""Two studies of one patient: aligned, lesion by lesion, growth; and tables of many pairs."""
