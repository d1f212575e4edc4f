"""The web server: pages, their JSON, DICOMweb. It reads the folder and the database, and decodes no DICOM."""
