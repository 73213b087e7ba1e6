"""Results broken down by cohort, label rule and error; what differs from the training studies."""
