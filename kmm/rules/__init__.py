"""Labels from the words of reports: rules in a file, which know negation and doubt, and their audit."""
