"""Offline pages: sections, tables and figures as values, and the template and style sheet that show them."""
