"""Admit, check, batch and run requests, for both protocols."""
