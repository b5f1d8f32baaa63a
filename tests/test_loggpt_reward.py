import numpy as np
import pytest

from known_loggpt import fit, sessions
from oddlog.artifact import load_arrays
from oddlog.detectors.loggpt import LogGPT, margin, model
from oddlog.run import Run

NORMAL = [[1, 2, 3, 4], [1, 2, 2, 4], [1, 3, 4], [2, 2, 3, 4, 4, 1]] * 2
VARIANTS = ("topk_margin", "ppo", "reference")
SETTINGS = {
    "epochs": 2,
    "top_k": 2,
    "topk_margin": {"epochs": 2},
    "ppo": {"epochs": 2, "prompts": 2, "samples": 3, "inner_epochs": 2},
    "reference": {"episodes": 2, "beams": 2},
}
STAGES = {
    "topk_margin": "top-k margin",
    "ppo": "top-k reward by ppo",
    "reference": "released reward",
}


def learn(reward, run=None, **settings):
    settings = SETTINGS | settings
    return fit(NORMAL, run=run or Run(device="cpu"), reward=reward, **settings)


def weights_of(detector, folder):
    folder.mkdir(parents=True, exist_ok=True)
    detector.save(folder)
    return load_arrays(folder / "model.safetensors")


def differing(first, second):
    return [name for name in first if (first[name] != second[name]).any()]


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory):
    """Return the folder of a first stage's checkpoint, and its weights."""
    folder = tmp_path_factory.mktemp("first")
    detector = learn("none", Run(device="cpu", checkpoints=folder))
    return folder, weights_of(detector, folder / "model")


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request, tmp_path_factory):
    """Return a variant's name, its detector and its weights, of seed 0."""
    detector = learn(request.param)
    return request.param, detector, weights_of(detector, tmp_path_factory.mktemp(request.param))


def test_every_trainable_parameter_moves(variant, first_stage):
    assert differing(first_stage[1], variant[2]) == [*first_stage[1]]


def test_the_same_seed_gives_the_same_weights_and_another_one_others(variant, tmp_path):
    name, _, weights = variant
    assert differing(weights, weights_of(learn(name), tmp_path / "same")) == []
    other = learn(name, Run(seed=1, device="cpu"))
    assert differing(weights, weights_of(other, tmp_path / "other")) != []


def test_a_second_stage_goes_on_from_the_checkpoint_of_any_first_one(
    variant, first_stage, tmp_path
):
    name, _, weights = variant
    checkpoint = tmp_path / "language model.safetensors"
    checkpoint.write_bytes((first_stage[0] / checkpoint.name).read_bytes())
    again = learn(name, Run(device="cpu", checkpoints=tmp_path, resume=True))
    assert differing(weights, weights_of(again, tmp_path / "model")) == []


def test_a_second_stage_killed_and_resumed_equals_an_unbroken_one(variant, tmp_path):
    name, detector, weights = variant

    def kill(stage, done, total):
        if stage == STAGES[name] and done == total // 2 + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(name, Run(device="cpu", checkpoints=tmp_path, progress=kill))
    again = learn(name, Run(device="cpu", checkpoints=tmp_path, resume=True))
    assert differing(weights, weights_of(again, tmp_path / "model")) == []
    assert again.reward_history == detector.reward_history


def test_a_second_stage_keeps_its_history(variant):
    _, detector, _ = variant
    assert [record["epoch"] for record in detector.reward_history] == [0, 1]
    assert all(np.isfinite(record["valid_loss"]) for record in detector.reward_history)


def test_a_detector_with_a_second_stage_can_be_saved_and_loaded(variant, tmp_path):
    _, detector, _ = variant
    detector.save(tmp_path)
    loaded, some = LogGPT.load(tmp_path, "cpu"), sessions([[1, 2, 9, 4], [3]])
    assert loaded.config == detector.config
    assert loaded.score(some).event.tolist() == detector.score(some).event.tolist()


def test_without_a_reward_there_is_no_second_stage():
    assert learn("none").reward_history == []


@pytest.mark.parametrize("name", ["topk_margin", "ppo"])
def test_the_epoch_is_chosen_by_normals_outside_the_rule_and_then_by_loss(name):
    detector = learn(name, patience=1)
    best = min(record["valid_loss"] for record in detector.reward_history)
    flagged = detector.paper_rule(detector.score(sessions(NORMAL))).sum()
    loss = best - flagged
    assert 0 < loss < 1
    # with one weight for each continuation the loss is not the plain mean: only its place is known
    assert loss / (1 - loss) < np.log(6)


def test_a_margin_brings_true_keys_into_the_likeliest():
    cycle = [[1, 2, 3, 4, 5, 1, 2, 3, 4, 5]] * 4
    few = {"epochs": 1, "top_k": 1, "learning_rate": 1e-4}
    plain = fit(cycle, **few)
    hinge = {"epochs": 60, "learning_rate": 0.02}
    pushed = fit(cycle, reward="topk_margin", topk_margin=hinge, dropout=0.0, **few)
    before, after = (
        (d.score(sessions(cycle)).measures["rank"] > 0).mean() for d in (plain, pushed)
    )
    assert after < before / 2


def test_a_strong_tie_to_the_first_stage_keeps_ppo_near_it(first_stage, tmp_path):
    free, tied = (
        weights_of(
            learn("ppo", ppo=SETTINGS["ppo"] | {"kl": kl, "learning_rate": 1e-3}),
            tmp_path / str(kl),
        )
        for kl in (0.0, 100.0)
    )

    def distance(weights):
        return sum(float(((weights[n] - w) ** 2).sum()) for n, w in first_stage[1].items())

    assert distance(tied) < distance(free)


def test_the_hinge_learns_a_large_batch_in_pieces(monkeypatch):
    sizes = []

    def loss(network, batch, *_):
        sizes.append(batch.tokens.numel())
        return network.transformer.wte.weight.sum()

    monkeypatch.setattr(model, "TRAINING_TOKENS", 16)  # a batch of 4 strings has up to 32
    monkeypatch.setattr(margin, "topk_margin_loss", loss)
    learn("topk_margin")
    assert 0 < max(sizes) <= 16
