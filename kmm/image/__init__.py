"""Film files to arrays, and arrays to the square that an encoder reads."""
