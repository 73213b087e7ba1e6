"""Readers for the layouts in which studies are published or exported, one file per layout."""
