"""Files that appear whole or not at all; locks, walks, names of outputs."""
