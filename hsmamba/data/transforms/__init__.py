"""The transform that travels with weights: its steps, and `Compose`, which holds them."""
