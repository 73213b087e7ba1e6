"""Presentation of a comparison: figures, page, methods paragraph, references."""
