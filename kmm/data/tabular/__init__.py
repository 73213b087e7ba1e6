"""Tables of studies: files of text, rows, columns, frames in memory."""
