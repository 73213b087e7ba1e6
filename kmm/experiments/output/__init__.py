"""What people read of a comparison: figures, page, methods paragraph, references."""
