"""Intervals and tests: bootstrap, paired tests, tests across splits, shares of the sides."""
