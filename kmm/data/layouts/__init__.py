"""Readers of the layouts in which studies are published or exported, one file per layout."""
