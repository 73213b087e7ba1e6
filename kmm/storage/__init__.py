"""Files written whole or not at all, and the folder and the archive of a saved classifier."""
