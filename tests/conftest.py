"""What holds for every test."""

import torch

# The tensors of the tests are small: a second thread costs more than it brings, much more on a busy machine.
torch.set_num_threads(1)
