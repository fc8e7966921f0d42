"""Image fusion: sharpen, train, evaluate, run recipes."""
