"""The verbs of the command line, one file each: what they take, and what their help says."""
