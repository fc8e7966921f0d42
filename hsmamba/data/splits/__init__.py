"""Which labelled pixels train, validate and test: random, spatially disjoint, by group or given."""
