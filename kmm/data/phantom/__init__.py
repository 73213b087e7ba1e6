"""The phantom set: synthetic films and reports with lesions at known positions."""
