from dataclasses import replace

import pytest
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from oddlog.errors import ArtifactError, ConfigError
from oddlog.nn import training
from oddlog.nn.training import Stage, Task, learning_rate_at, run_stage
from oddlog.run import Run

STAGE = Stage("learn", epochs=5, learning_rate=0.05, patience=5)
CHECKPOINT = "learn.safetensors"


class Scale(nn.Module):
    """One weight."""

    def __init__(self, value=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([value]))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1))


def regression(model, validate=None):
    """Return a task on 12 fixed points in 3 batches, in an order drawn by each epoch."""
    points = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))
    wanted = points.sum(dim=1, keepdim=True)

    def batches(generator):
        yield from torch.randperm(12, generator=generator).split(4)

    def loss(batch):
        return nn.functional.mse_loss(model(points[batch]), wanted[batch])

    def valid_loss():
        return nn.functional.mse_loss(model(points), wanted).item()

    return Task(3, batches, loss, validate or valid_loss)


def gradients(model, values, validate=lambda: 0.0):
    """Return a task whose batches have the losses, and the gradients, that ``values`` name."""
    return Task(len(values), lambda _: iter(values), lambda value: value * model.w.sum(), validate)


def script(*losses):
    left = list(losses)
    return lambda: left.pop(0)


def parameters(model):
    return {name: value.tolist() for name, value in model.named_parameters()}


def unbroken(run=None):
    model = network()
    history = run_stage(model, STAGE, regression(model), run or Run(seed=7))
    return parameters(model), history


def kill_at_step(number):
    def progress(_, done, __):
        if done == number:
            raise KeyboardInterrupt

    return progress


def broken(folder, number, stage=STAGE, validate=None):
    """Train until a step of that number, counted from 1 over all epochs, and no further."""
    model = network()
    run = Run(seed=7, checkpoints=folder, progress=kill_at_step(number))
    with pytest.raises(KeyboardInterrupt):
        run_stage(model, stage, regression(model, validate), run)


def resumed(folder, model_seed=99):
    """Resume in a network of other weights, as a new process would not have the old ones."""
    model = network(model_seed)
    run = Run(seed=7, checkpoints=folder, resume=True)
    history = run_stage(model, STAGE, regression(model), run)
    return parameters(model), history


@pytest.mark.parametrize("step", [4, 6, 9, 11, 15])
def test_a_killed_and_resumed_run_equals_an_unbroken_one_to_the_bit(tmp_path, step):
    broken(tmp_path, step)
    assert resumed(tmp_path) == unbroken()


def test_a_run_killed_while_it_validates_resumes_the_same(tmp_path):
    model = network()

    def validate():
        if (tmp_path / CHECKPOINT).exists():
            raise KeyboardInterrupt
        return regression(model).validate()

    with pytest.raises(KeyboardInterrupt):
        run_stage(model, STAGE, regression(model, validate), Run(seed=7, checkpoints=tmp_path))
    assert resumed(tmp_path) == unbroken()


def test_a_run_killed_while_it_saves_resumes_from_the_checkpoint_before(tmp_path, monkeypatch):
    save, calls = training.save_file, []

    def save_half(tensors, path, metadata):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        save(tensors, path, metadata)

    monkeypatch.setattr(training, "save_file", save_half)
    model = network()
    with pytest.raises(KeyboardInterrupt):
        run_stage(model, STAGE, regression(model), Run(seed=7, checkpoints=tmp_path))
    assert resumed(tmp_path) == unbroken()


def test_a_run_killed_before_its_first_checkpoint_starts_anew(tmp_path):
    broken(tmp_path, 2)
    assert resumed(tmp_path, model_seed=0) == unbroken()


def test_a_run_killed_twice_resumes_the_same(tmp_path):
    broken(tmp_path, 5)
    model = network(99)
    run = Run(seed=7, checkpoints=tmp_path, resume=True, progress=kill_at_step(11))
    with pytest.raises(KeyboardInterrupt):
        run_stage(model, STAGE, regression(model), run)
    assert resumed(tmp_path) == unbroken()


def test_a_finished_run_is_not_trained_again(tmp_path):
    done = unbroken(run=Run(seed=7, checkpoints=tmp_path))
    model = network(99)
    steps = []
    run = Run(seed=7, checkpoints=tmp_path, resume=True, progress=lambda *a: steps.append(a))
    history = run_stage(model, STAGE, regression(model), run)
    assert (parameters(model), history) == done
    assert steps == [("learn", 15, 15)]


def test_patience_is_counted_across_a_break(tmp_path):
    stage = replace(STAGE, epochs=9, patience=3)
    broken(tmp_path, 10, stage, validate=script(1.0, 2.0, 2.0))
    again = network(99)
    run = Run(seed=7, checkpoints=tmp_path, resume=True)
    history = run_stage(again, stage, regression(again, script(2.0)), run)
    assert [record["valid_loss"] for record in history] == [1.0, 2.0, 2.0, 2.0]


def test_the_best_weights_survive_a_break(tmp_path):
    whole = network()
    run_stage(whole, STAGE, regression(whole, script(1.0, 2.0, 2.0, 2.0, 2.0)), Run(seed=7))
    broken(tmp_path, 7, validate=script(1.0, 2.0))
    again = network(99)
    run = Run(seed=7, checkpoints=tmp_path, resume=True)
    run_stage(again, STAGE, regression(again, script(2.0, 2.0, 2.0)), run)
    assert parameters(again) == parameters(whole)


def test_pieces_of_a_batch_make_one_step_of_their_summed_shares():
    whole, cut = Scale(1.0), Scale(1.0)
    shares = {3.0: [(1.0, 0.5), (2.0, 0.25)]}  # 0.5 * 1 + 0.25 * 2 is the gradient of 1
    one = run_stage(whole, STAGE, gradients(whole, [1.0]), Run(seed=7))
    two = run_stage(cut, STAGE, replace(gradients(cut, [3.0]), pieces=shares.get), Run(seed=7))
    assert (parameters(cut), two) == (parameters(whole), one)


def test_without_resume_a_checkpoint_is_not_read(tmp_path):
    broken(tmp_path, 9)
    assert unbroken(run=Run(seed=7, checkpoints=tmp_path)) == unbroken()


def test_no_checkpoint_is_kept_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unbroken()
    assert list(tmp_path.iterdir()) == []


def test_one_checkpoint_is_kept_and_no_other_file(tmp_path):
    unbroken(run=Run(seed=7, checkpoints=tmp_path / "deep"))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [CHECKPOINT]


@pytest.mark.parametrize(
    ("stage", "seed", "fingerprint"),
    [
        (STAGE, 8, "log a"),
        (STAGE, 7, "log b"),
        (replace(STAGE, learning_rate=0.01), 7, "log a"),
        (replace(STAGE, epochs=6), 7, "log a"),
    ],
    ids=["seed", "log", "rate", "epochs"],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, stage, seed, fingerprint):
    model = network()
    run_stage(model, STAGE, regression(model), Run(seed=7, checkpoints=tmp_path), "log a")
    run = Run(seed=seed, checkpoints=tmp_path, resume=True)
    with pytest.raises(
        ConfigError, match=r"learn\.safetensors: this checkpoint belongs to another"
    ):
        run_stage(model, stage, regression(model), run, fingerprint)


def test_a_checkpoint_refused_leaves_the_network_as_it_was(tmp_path):
    broken(tmp_path, 9)
    model = network(99)
    with pytest.raises(ConfigError):
        run_stage(model, STAGE, regression(model), Run(seed=8, checkpoints=tmp_path, resume=True))
    assert parameters(model) == parameters(network(99))


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"", lambda b: b"{}" * 99])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    broken(tmp_path, 9)
    path = tmp_path / CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"learn\.safetensors: damaged checkpoint: .*remove it"):
        resumed(tmp_path)


def test_a_checkpoint_that_cannot_be_written_is_told_with_the_reason(tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(training, "save_file", full)
    model = network()
    with pytest.raises(ArtifactError, match="cannot write the checkpoint: No space left"):
        run_stage(model, STAGE, regression(model), Run(checkpoints=tmp_path))


def weights_by_epoch(losses, stage):
    """Train one weight against scripted losses; return it, and what it was after each epoch."""
    model, seen, losses = Scale(), [], list(losses)

    def validate():
        seen.append(model.w.item())
        return losses.pop(0)

    history = run_stage(model, stage, gradients(model, [1.0], validate), Run())
    return model.w.item(), seen, history


def test_the_weights_of_the_best_epoch_are_restored():
    final, seen, _ = weights_by_epoch([3.0, 1.0, 2.0, 1.5, 4.0], STAGE)
    assert final == seen[1]
    assert len(set(seen)) == 5


def test_of_equally_good_epochs_the_first_is_kept():
    final, seen, _ = weights_by_epoch([3.0, 1.0, 1.0, 1.0, 1.0], STAGE)
    assert final == seen[1]


@pytest.mark.parametrize(
    ("losses", "n_epochs"),
    [
        ([3.0, 2.0, 2.5, 2.0, 0.0], 4),
        ([3.0, 2.0, 2.5, 1.0, 1.5], 5),
        ([1.0, 1.0, 1.0, 0.0, 0.0], 3),
        ([5.0, 4.0, 3.0, 2.0, 1.0], 5),
    ],
)
def test_training_stops_after_epochs_of_patience_without_a_better_loss(losses, n_epochs):
    _, _, history = weights_by_epoch(losses, replace(STAGE, patience=2))
    assert [record["valid_loss"] for record in history] == losses[:n_epochs]
    assert [record["epoch"] for record in history] == list(range(n_epochs))


def test_the_train_loss_is_the_mean_over_batches():
    model = Scale(1.0)
    stage = replace(STAGE, epochs=1, learning_rate=1e-12, weight_decay=0.0)
    history = run_stage(model, stage, gradients(model, [1.0, 2.0, 6.0]), Run())
    assert history[0]["train_loss"] == pytest.approx(3.0)


def test_an_empty_epoch_has_no_loss():
    model = Scale()
    history = run_stage(model, replace(STAGE, epochs=1), gradients(model, []), Run())
    assert history[0]["train_loss"] == 0.0


def test_each_epoch_draws_batches_of_its_own():
    model, drawn = Scale(), []

    def batches(generator):
        drawn.append(torch.rand(2, generator=generator).tolist())
        yield 1.0

    for _ in range(2):
        task = Task(1, batches, lambda value: value * model.w.sum(), script(3.0, 2.0))
        run_stage(model, replace(STAGE, epochs=2), task, Run())
    assert drawn[:2] == drawn[2:]
    assert drawn[0] != drawn[1]


def test_dropout_is_on_in_training_and_off_in_validation_and_after():
    model, modes = Scale(), []

    def validate():
        modes.append(("valid", model.training, torch.is_grad_enabled()))
        return 0.0

    def loss(value):
        modes.append(("train", model.training, torch.is_grad_enabled()))
        return value * model.w.sum()

    task = Task(1, lambda _: iter([1.0]), loss, validate)
    run_stage(model, replace(STAGE, epochs=2), task, Run())
    assert modes == [("train", True, True), ("valid", False, False)] * 2
    assert not model.training


def test_progress_counts_steps_to_the_end():
    model, steps = Scale(), []
    stage = replace(STAGE, epochs=9, patience=1)
    task = gradients(model, [1.0, 1.0], script(1.0, 1.0))
    run_stage(model, stage, task, Run(progress=lambda *step: steps.append(step)))
    assert steps == [("learn", done, 18) for done in (1, 2, 3, 4, 18)]


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.5), (1, 1.0), (2, 1.0), (5, 0.55), (6, 0.325), (8, 0.1)],
)
def test_the_rate_warms_up_and_falls_by_half_a_cosine_to_a_tenth(step, rate):
    stage = replace(STAGE, learning_rate=1.0, warmup=0.25)
    assert learning_rate_at(stage, step, 8) == pytest.approx(rate)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.5), (1, 1.0), (2, 1.0), (7, 1.0)])
def test_a_constant_rate_stays_after_the_warm_up(step, rate):
    stage = replace(STAGE, learning_rate=1.0, warmup=0.25, schedule="constant")
    assert learning_rate_at(stage, step, 8) == pytest.approx(rate)


def test_without_a_warm_up_the_first_rate_is_the_peak():
    assert learning_rate_at(replace(STAGE, warmup=0.0), 0, 8) == pytest.approx(0.05)


def test_training_takes_the_rate_of_each_step():
    model = Scale()
    stage = replace(STAGE, warmup=0.3, weight_decay=0.0, epochs=4)
    losses = script(4.0, 3.0, 2.0, 1.0)
    run_stage(model, stage, gradients(model, [1.0] * 3, losses), Run())
    rates = [learning_rate_at(stage, step, 12) for step in range(12)]
    assert model.w.item() == pytest.approx(-sum(rates), rel=1e-5)  # Adam of a constant gradient


def test_weight_decay_shrinks_what_has_no_gradient():
    model = Scale(2.0)
    stage = replace(STAGE, epochs=1, learning_rate=0.5, weight_decay=0.1, schedule="constant")
    run_stage(model, stage, gradients(model, [0.0, 0.0]), Run())
    assert model.w.item() == pytest.approx(2.0 * (1 - 0.5 * 0.1) ** 2)


@pytest.mark.parametrize(("clip", "wanted"), [(1.0, [0.5, 1.0, -1.0]), (0.0, [0.5, 9.0, -30.0])])
def test_gradients_beyond_the_clip_are_cut_to_it(clip, wanted):
    model, seen = Scale(), []

    def keep(*_):
        seen.append(model.w.grad.item())

    stage = replace(STAGE, epochs=1, clip=clip)
    run_stage(model, stage, gradients(model, [0.5, 9.0, -30.0]), Run(progress=keep))
    assert seen[:3] == pytest.approx(wanted, rel=1e-4)


def test_a_run_that_diverges_says_so():
    model = network()
    with pytest.raises(ConfigError, match="diverged; lower learning_rate"):
        run_stage(model, STAGE, regression(model, script(0.5, float("nan"))), Run())


@pytest.mark.parametrize(("keep", "value"), [("best", 1.0), ("last", 3.0)])
def test_the_weights_of_the_best_epoch_or_of_the_last_are_kept(keep, value):
    model = Scale()
    stage = replace(STAGE, epochs=3, keep=keep, weight_decay=0.0)
    # one step of an even gradient moves the weight, whatever the size, by the rate
    run_stage(model, stage, gradients(model, [-1.0], script(1.0, 2.0, 3.0)), Run())
    rates = [learning_rate_at(stage, step, 3) for step in range(3)]
    assert model.w.item() == pytest.approx(sum(rates[: int(value)]), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "n_epochs"),
    [({}, 5), ({"forgives": False}, 4), ({"min_gain": 0.05}, 3), ({"min_gain": 0.01}, 5)],
    ids=str,
)
def test_patience_counts_the_epochs_that_do_not_gain_enough(change, n_epochs):
    model = Scale()
    stage = replace(STAGE, epochs=7, patience=2, **change)
    losses = script(1.0, 1.1, 0.98, 1.2, 1.3, 1.4, 1.5)
    history = run_stage(model, stage, gradients(model, [1.0], losses), Run())
    assert len(history) == n_epochs


def test_a_linear_schedule_falls_to_nothing_as_a_line():
    stage = Stage(name="s", epochs=1, learning_rate=0.1, schedule="linear", warmup=0.0)
    rates = [learning_rate_at(stage, step, 4) for step in range(4)]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_the_rate_falls_after_each_tenth_of_an_exponential_stage():
    stage = replace(STAGE, schedule="exponential", gamma=0.5, warmup=0.0, learning_rate=0.8)
    rates = [learning_rate_at(stage, step, 20) for step in (0, 1, 2, 3, 19)]
    assert rates == [0.8, 0.8, 0.4, 0.4, 0.8 * 0.5**9]


def frozen_at_the_end():
    model = network()
    model[-1].requires_grad_(False)
    return model


def test_what_requires_no_gradient_stays_as_it_is():
    model = frozen_at_the_end()
    before = parameters(model)
    run_stage(model, STAGE, regression(model), Run())
    after = parameters(model)
    assert {name for name in after if after[name] != before[name]} == {"0.weight", "0.bias"}


def test_a_checkpoint_holds_only_what_is_trained(tmp_path):
    model = frozen_at_the_end()
    run_stage(model, STAGE, regression(model), Run(checkpoints=tmp_path))
    with safe_open(tmp_path / CHECKPOINT, framework="pt") as file:
        stored = {name for name in file.keys() if name.startswith(("model.", "best."))}  # noqa: SIM118
    assert stored == {"model.0.weight", "model.0.bias", "best.0.weight", "best.0.bias"}


def test_each_epoch_is_told_with_its_validation_loss():
    told, losses = [], [3.0, 1.0, 2.0, 2.5, 2.5]
    model = network()
    run = Run(seed=7, epoch=lambda *epoch: told.append(epoch))
    run_stage(model, STAGE, regression(model, script(*losses)), run)
    assert told == [("learn", done, 5, loss) for done, loss in enumerate(losses, 1)]
