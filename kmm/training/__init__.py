"""Training of a classifier from studies, in stages that can be stopped and resumed."""
