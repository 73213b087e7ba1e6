"""Evaluate scores: metrics, confidence intervals, calibration and plots."""
