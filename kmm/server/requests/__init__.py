"""A request from its arrival to its answer, whichever protocol brought it."""
