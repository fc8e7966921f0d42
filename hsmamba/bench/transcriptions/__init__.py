"""The fusion networks as their papers' equations read, on official state dictionaries: baselines of `bench models`.

Nothing is saved: every window, every scaled tap and every query of an implicit function is a copy of its own, as it is
in the papers' code. The tests compare our networks with these functions in float64 at random sizes.
"""
