"""DICOM: find, choose, order and decode CT series; write segmentations, reports and pictures."""
