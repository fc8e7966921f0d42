"""Models by name: the factory, the weights manifest, model folders and the Hub, official checkpoints."""
