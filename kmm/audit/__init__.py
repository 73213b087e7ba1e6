"""Audit of a collection: the words, labels, views and copies that it has, as numbers and as a page."""
