"""Attribution maps to circles on the film."""
