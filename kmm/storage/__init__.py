"""Atomic writes of files, and the folder and the archive of a saved classifier."""
