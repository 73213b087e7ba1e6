"""Explanations of what a search found: one page of the query and its hits, and their test by removal."""
