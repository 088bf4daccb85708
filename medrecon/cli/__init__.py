"""What the verbs of the command line do; imported only when a verb runs, so that `--help` stays fast."""
