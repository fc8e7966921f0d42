"""Scan orders: each is a permutation of the pixels, the one its name says, and its inverse undoes it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsmamba.layers import scan_order as so

SIDES = st.integers(1, 7)
ORDERS = {  # forward, back, step t of an H x W map -> (row, column)
    "rows": (so.rows, so.rows_back, lambda t, h, w: (t // w, t % w)),
    "columns": (so.columns, so.columns_back, lambda t, h, w: (t % h, t // h)),
}


@pytest.mark.parametrize("name", ORDERS)
@given(height=SIDES, width=SIDES)
def test_an_order_is_the_permutation_it_says_and_its_inverse_undoes_it(name, height, width):
    forward, back, pixel = ORDERS[name]
    order = forward(so.index_map(height, width))
    rows_and_columns = [pixel(t, height, width) for t in range(height * width)]
    assert order.tolist() == [i * width + j for i, j in rows_and_columns]
    assert sorted(order.tolist()) == list(range(height * width))
    x = torch.randn(2, 3, height, width)
    assert torch.equal(forward(x), x.flatten(2)[..., order])
    assert torch.equal(back(forward(x), height, width), x)
    sequence = torch.randn(2, 3, height * width)
    assert torch.equal(forward(back(sequence, height, width)), sequence)
    # backwards in time, and from the other corners: a flip, which undoes itself
    backwards = forward(so.index_map(height, width)).flip(-1)
    assert backwards.tolist() == order.tolist()[::-1]
    assert torch.equal(back(forward(x).flip(-1).flip(-1), height, width), x)
    for axes in ((-1,), (-2,), (-1, -2)):
        mirrored = forward(so.index_map(height, width).flip(axes))
        assert sorted(mirrored.tolist()) == sorted(order.tolist())
        assert torch.equal(forward(x.flip(axes)), x.flatten(2)[..., mirrored])
        assert torch.equal(back(forward(x.flip(axes)), height, width).flip(axes), x)


@given(height=SIDES, width=SIDES)
def test_a_quarter_turn_is_clockwise_and_four_of_them_are_none(height, width):
    x = torch.randn(2, height, width)
    turned = so.quarter_turn(x)
    assert turned.shape == (2, width, height)
    assert torch.equal(turned, torch.rot90(x, -1, (-2, -1)))
    assert all(turned[0, i, j] == x[0, height - 1 - j, i] for i in range(width) for j in range(height))
    for _ in range(3):
        turned = so.quarter_turn(turned)
    assert torch.equal(turned, x)


@given(height=SIDES, width=SIDES)
def test_neighbouring_steps_of_a_snake_are_neighbouring_pixels(height, width):
    order = so.snake(so.index_map(height, width))
    assert sorted(order.tolist()) == list(range(height * width))
    assert order[:width].tolist() == list(range(width))
    row, column = order // width, order % width
    assert bool(((row.diff().abs() + column.diff().abs()) == 1).all())


def test_gradients_go_back_to_the_pixels_they_come_from():
    for forward, _, _ in ORDERS.values():
        x = torch.randn(1, 2, 3, 4, requires_grad=True)
        weight = torch.arange(12.0)
        (forward(x) * weight).sum().backward()
        assert torch.equal(forward(x.grad)[0, 0], weight)


@given(height=SIDES, width=SIDES)
def test_reading_in_several_orders_and_putting_back(height, width):
    x = torch.randn(2, 4, 3, height, width)
    sequences = so.read(x, so.CROSS)
    table = so.order_table(so.CROSS, height, width).long()
    for k, (name, _, time) in enumerate(order.partition(" ") for order in so.CROSS):
        order = ORDERS[name][0](so.index_map(height, width))
        assert torch.equal(table[k], order.flip(0) if time else order)
        assert torch.equal(sequences[:, k], x[:, k].flatten(2)[..., table[k]])
        assert torch.equal(so.put_back(sequences, so.CROSS, height, width)[k], x[:, k])
    assert torch.equal(so.read(x[:, :1], so.CROSS), so.read(x[:, :1].repeat(1, 4, 1, 1, 1), so.CROSS))
