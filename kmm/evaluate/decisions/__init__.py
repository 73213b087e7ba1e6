"""From probabilities to decisions: calibration, thresholds, operating points, conformal sets, selective prediction."""
