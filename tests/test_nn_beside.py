"""What learns side by side learns what it would alone, and ends together."""

import signal
import threading
import time
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from oddlog.errors import ConfigError
from oddlog.nn.beside import side_by_side
from oddlog.nn.dropout import Dropout
from oddlog.nn.training import Stage, Task, run_stage
from oddlog.run import Run

CPU = torch.device("cpu")
POINTS = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def lesson(name, seed, epochs=6):
    """Return a small network, and the lesson that trains it."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 8), Dropout(0.5), nn.ReLU(), nn.Linear(8, 1))

    def loss(batch):
        return network(POINTS[batch]).square().mean()

    def batches(generator):
        yield from torch.randperm(12, generator=generator).split(4)

    task = Task(3, batches, loss, lambda: loss(slice(None)).item())
    stage = Stage(name, epochs=epochs, learning_rate=0.05)
    return network, lambda run: run_stage(network, stage, task, run)


def learned(names, run, together=side_by_side):
    """Return the weights and the histories of several lessons."""
    pairs = [lesson(name, seed) for seed, name in enumerate(names)]
    histories = together([learn for _, learn in pairs], run, CPU)
    weights = [[w.tolist() for w in network.parameters()] for network, _ in pairs]
    return weights, histories


def in_turn(lessons, run, _device):
    return [learn(run) for learn in lessons]


@contextmanager
def threads_of_torch(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    yield
    torch.set_num_threads(before)


def test_what_learns_side_by_side_is_to_the_bit_what_learns_in_turn():
    found = learned("ab", Run(seed=7))
    with threads_of_torch(1):
        assert found == learned("ab", Run(seed=7), in_turn)


@pytest.mark.parametrize(("n", "wanted"), [(1, {1}), (2, {1}), (5, {2})])
def test_the_cores_are_shared_and_given_back(n, wanted):
    def look(run):
        return torch.get_num_threads()

    with threads_of_torch(n):
        assert set(side_by_side([look, look], Run(), CPU)) == wanted
        assert torch.get_num_threads() == n


def test_lessons_meet_where_there_are_threads_for_both():
    both = threading.Barrier(2, timeout=30)
    assert sorted(side_by_side([lambda _: both.wait()] * 2, Run(), CPU)) == [0, 1]


@pytest.mark.parametrize(
    ("n_threads", "n_lessons", "device"), [(1, 2, "cpu"), (8, 1, "cpu"), (8, 2, "meta")]
)
def test_elsewhere_lessons_are_learned_in_turn_by_the_thread_that_asks(
    n_threads, n_lessons, device
):
    with threads_of_torch(n_threads):
        lessons = [lambda _: threading.get_ident()] * n_lessons
        found = side_by_side(lessons, Run(), torch.device(device))
    assert found == [threading.get_ident()] * n_lessons


def test_who_watches_is_told_by_one_at_a_time_and_of_the_first_stage_first():
    telling, stages = threading.Lock(), []

    def progress(*_):
        assert telling.acquire(blocking=False)
        time.sleep(0.001)
        telling.release()

    run = Run(progress=progress, epoch=lambda stage, *_: stages.append(stage))
    _, slow = lesson("a", 0)
    _, quick = lesson("b", 1)
    side_by_side([lambda run: (time.sleep(0.1), slow(run))[1], quick], run, CPU)
    assert (stages[0], stages.count("a"), stages.count("b")) == ("a", 6, 6)


@pytest.mark.parametrize("failing", ["a", "b"])
def test_where_one_fails_the_other_ends_and_the_failure_is_told(failing):
    steps = {"a": 0, "b": 0}

    def progress(stage, done, total):
        steps[stage] += 1
        if stage == failing and done == 4:
            raise ConfigError(f"{stage} cannot go on")

    pairs = [lesson(name, seed, epochs=100_000) for seed, name in enumerate("ab")]
    with pytest.raises(ConfigError, match=f"^{failing} cannot go on$"):
        side_by_side([learn for _, learn in pairs], Run(progress=progress), CPU)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("learn")]
    assert torch.get_num_threads() == 2


def test_an_interrupt_that_comes_to_a_thread_that_learns_ends_both():
    def progress(stage, done, total):
        if (stage, done) == ("a", 4):
            signal.raise_signal(signal.SIGINT)

    pairs = [lesson(name, seed, epochs=100_000) for seed, name in enumerate("ab")]
    with pytest.raises(KeyboardInterrupt):
        side_by_side([learn for _, learn in pairs], Run(progress=progress), CPU)


@pytest.mark.parametrize("killed", ["a", "b"])
def test_a_kill_in_either_and_a_resume_give_the_weights_of_an_unbroken_run(tmp_path, killed):
    def kill(stage, done, total):
        if stage == killed and done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learned("ab", Run(seed=7, checkpoints=tmp_path, progress=kill))
    again = learned("ab", Run(seed=7, checkpoints=tmp_path, resume=True))
    assert again == learned("ab", Run(seed=7))
