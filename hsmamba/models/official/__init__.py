"""Official checkpoints, a file a family: their configuration and their names in ours.

Each file has two functions, which `hsmamba.load_official` calls with the official state, tensors by official name.

- `official_args(state_dict, config)` gives the keyword arguments of our class. `config` may have the names that its
  docstring lists; what is left out is read off the tensors. Another name is a TypeError.
- `checkpoint_filter_fn(state_dict, model)` gives the state by our names and in the shapes of `model`, without tensors
  that have no influence. A state that has our names passes it unchanged.
"""
