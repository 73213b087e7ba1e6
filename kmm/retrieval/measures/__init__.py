"""Measures of what an index finds, beside chance, an oracle and simple baselines."""
