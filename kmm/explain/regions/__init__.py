"""Regions: circles on the film that enclose the strongest points of an attribution map."""
