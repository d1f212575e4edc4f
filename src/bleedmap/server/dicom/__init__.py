"""DICOM between machines: receive, send, ask what the other side holds."""
