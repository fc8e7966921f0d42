"""Benchmarks that `hsmamba bench` runs: against peers, in one process, interleaved, medians."""
