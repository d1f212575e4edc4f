"""Sections, tables and HTML pages, written the same way for every report."""
