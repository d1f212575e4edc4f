"""What a result becomes: files, tables, pictures, a page, DICOM objects."""
