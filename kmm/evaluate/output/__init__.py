"""Presentation of an evaluation: tables, plots, model card."""
