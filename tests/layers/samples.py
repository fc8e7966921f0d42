"""What holds for every operator that works in tiles."""

import torch

from hsmamba.layers import tiling


def tiles_and_threads_change_nothing(monkeypatch, operator, inputs, tile_elements):
    whole = operator(*inputs)
    gradients = torch.autograd.grad(whole.square().sum(), inputs)
    monkeypatch.setitem(tiling._TILE_ELEMENTS, "cpu", tile_elements)
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            tiled = operator(*inputs)
            with torch.inference_mode():
                assert torch.equal(operator(*inputs), tiled)
            assert torch.get_num_threads() == number
            torch.testing.assert_close(tiled, whole)
            torch.testing.assert_close(torch.autograd.grad(tiled.square().sum(), inputs), gradients)
    finally:
        torch.set_num_threads(threads)
