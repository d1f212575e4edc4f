"""Files in and out: NIfTI, pictures, DICOM, and writing that is whole or not at all."""
