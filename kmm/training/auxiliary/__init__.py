"""Train the image side on auxiliary targets beside the labels."""
