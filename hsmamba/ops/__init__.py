"""One operator, the selective scan, with its reference and its backends."""
