"""Read film files as arrays, and prepare the square arrays that encoders read."""
