"""Scores to figures: metrics, intervals, calibration and pictures."""
