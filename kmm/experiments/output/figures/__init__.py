"""Figures of a comparison, as PNG and SVG."""
