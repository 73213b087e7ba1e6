"""Decide the view of each film, frontal or lateral, from tables, DICOM headers and file names."""
