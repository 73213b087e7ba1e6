"""Where in the picture and which words in the report: attributions of a classifier, with a known error."""
