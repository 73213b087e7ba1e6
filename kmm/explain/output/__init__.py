"""Explanations as pictures, pages, tables and JSON."""
