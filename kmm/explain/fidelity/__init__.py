"""Measuring whether explanations are right: localisation, deletion, randomised weights."""
