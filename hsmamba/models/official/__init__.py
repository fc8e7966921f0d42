"""Official checkpoints, a file a family: their configuration and their names in ours."""
