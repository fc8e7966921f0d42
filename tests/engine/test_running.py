"""Models that threads share: right in whatever mode they were, and left in that mode. Teams of threads."""

import platform
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import hsmamba
from hsmamba.engine.running import ahead, evaluating, in_turn, keeping_memory, on_threads, step_threads, team
from tests.engine.fusion.toys import images, make


def shared(calls):
    """Run calls at the same time, in threads."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_threads_that_classify_with_one_model(make_model, scene, transform, training):
    model = make_model().train(training)
    wanted = hsmamba.classify(model, scene, transform, progress=False)
    got = shared([lambda: hsmamba.classify(model, scene, transform, batch_size=32, progress=False)] * 24)
    for labels, confidence in got:
        np.testing.assert_array_equal(labels, wanted[0])
        np.testing.assert_allclose(confidence, wanted[1], atol=1e-5)
    assert model.training is training


@pytest.mark.parametrize(("name", "options"), [("ramsf", {}), ("rsanet", {"dim": 4, "depth": 1, "recursions": 1})])
def test_threads_that_fuse_with_one_model_keep_their_places(name, options):
    model, (ms, guide) = make(name, **options).train(), images(32, 32)
    sizes = [(18, 18), (12, 14), (10, 16), (16, 10)]
    crops = [(ms[:h, :w], guide[: 4 * h, : 4 * w]) for h, w in sizes]
    calls = [lambda c=c: hsmamba.fuse(model, *c, maximum=2000, tile=6, progress=False) for c in crops]
    for got, wanted in zip(shared(calls), [call() for call in calls], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert model.training


def test_each_layer_is_left_in_its_mode(make_model):
    model = make_model().train()
    frozen = [module for module in model.modules() if module is not model][::3]
    for module in frozen:
        module.training = False
    with pytest.raises(KeyboardInterrupt), evaluating(model, None):
        assert not any(module.training for module in model.modules())
        raise KeyboardInterrupt
    assert [module for module in model.modules() if not module.training] == frozen


@pytest.fixture
def three_threads():
    own = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(own)


def test_torch_takes_other_threads_within_a_block_alone(three_threads):
    with pytest.raises(KeyboardInterrupt), on_threads(1):
        assert torch.get_num_threads() == 1
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 3


def test_a_step_of_small_operations_takes_one_thread_and_counting_leaves_no_trace(three_threads):
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Dropout())
    before = {name: x.clone() for name, x in model.state_dict().items()}
    random = torch.get_rng_state()
    assert step_threads(model, lambda: model(torch.randn(2, 4, 16, 16))) == 1
    assert step_threads(model, lambda: model(torch.randn(2, 4, 160, 160))) == 3
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_num_threads() == 3


def test_views_are_no_operations(three_threads):
    model = torch.nn.Linear(64, 64)

    def forward(x):
        for _ in range(1000):
            x = x.mT
        return model(x)

    assert step_threads(model, lambda: forward(torch.randn(1024, 64))) == 3


def test_training_takes_one_thread_for_small_steps(three_threads, make_model, scene, split, transform):
    model, steps, epochs = make_model(), [], []
    note = model.register_forward_hook(lambda module, *_: steps.append((module.training, torch.get_num_threads())))
    hsmamba.finetune(
        model, scene, split, epochs=2, batch_size=16, transform=transform, progress=False,
        callback=lambda *_: epochs.append(torch.get_num_threads()),
    )  # fmt: skip
    note.remove()
    trained = [threads for training, threads in steps if training]
    assert trained.count(3) <= 2 and trained.count(1) > 2  # two sizes of a batch are counted, the first and the last
    assert epochs == [3, 3] and torch.get_num_threads() == 3


def test_who_waits_for_a_team_takes_none_of_its_cores(three_threads):
    with team(3) as submit:
        assert torch.get_num_threads() == submit(torch.get_num_threads)() == 1
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_a_team_gives_what_each_call_gives(three_threads, threads):
    def work(x, y):
        return x + y, torch.get_num_threads(), torch.is_inference_mode_enabled(), threading.current_thread()

    with torch.inference_mode(), team(threads) as submit:
        waiting = [submit(work, i, 10 * i) for i in range(20)]
        sums, own, inference, where = zip(*(result() for result in waiting), strict=True)
    assert sums == tuple(11 * i for i in range(20))
    assert all(inference)
    assert set(own) == ({1} if threads > 1 else {3})
    assert (threading.main_thread() in where) is (threads == 1)
    assert torch.get_num_threads() == 3
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 3


def test_autocast_reaches_the_team():
    a = torch.ones(4, 4)
    with torch.autocast("cpu", torch.bfloat16), team(2) as submit:
        assert submit(torch.mm, a, a)().dtype == torch.bfloat16
    with team(2) as submit:
        assert submit(torch.mm, a, a)().dtype == torch.float32


def test_what_fails_in_a_team_fails_at_its_result_and_ends_the_rest(three_threads):
    begun = []

    def work(i):
        begun.append(i)
        if i == 0:
            raise ValueError("the first")
        time.sleep(0.02)

    with pytest.raises(ValueError, match="the first"), team(2) as submit:
        waiting = [submit(work, i) for i in range(200)]
        waiting[0]()
    assert len(begun) < 200
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("most", [0, 2])
def test_no_more_is_begun_than_is_asked_for(most):
    begun = []
    with team(1) as submit:
        for i, (item, result) in enumerate(
            in_turn(submit, lambda x: 10 * x, (begun.append(i) or i for i in range(6)), most)
        ):
            assert (item, result) == (i, 10 * i)
            assert len(begun) == min(6, i + 1 + most)
    assert begun == list(range(6))


def test_the_next_item_is_made_ahead():
    made, used = threading.Semaphore(0), []

    def items():
        for i in range(3):
            made.release()
            yield i
        raise KeyError("at the end")

    with pytest.raises(KeyError, match="at the end"):
        for item in ahead(items()):
            assert made.acquire(timeout=10)  # this one
            used.append(item)
            if item < 2:
                assert made.acquire(timeout=10)  # the next one, before it is asked for
                made.release()
    assert used == [0, 1, 2]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other systems have an allocator of their own")
@pytest.mark.parametrize(("count", "megabytes"), [(30, 20), (15, 40)])
def test_a_step_gets_the_memory_of_the_step_before(count, megabytes):
    resource = pytest.importorskip("resource")

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        held = [torch.zeros(megabytes, 2**18) for _ in range(count)]  # 600 MB, as pages of 4 KB 153600
        del held
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with keeping_memory(large=True):
        with keeping_memory(large=True):
            faults()
        assert min(faults() for _ in range(4)) < 1000  # what is small may come to lie in between at first
    assert faults() > 10000  # beyond the 256 MB that stay, the system had it back
