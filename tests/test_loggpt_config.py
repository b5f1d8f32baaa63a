import pytest
from pydantic import ValidationError

from known_loggpt import sessions, unigram
from oddlog.config import parse_assignments
from oddlog.detectors.loggpt import LogGPTConfig
from oddlog.detectors.loggpt.config import PAPER
from oddlog.errors import ConfigError
from oddlog.pipeline import make_config


def from_command_line(*assignments):
    config = make_config(parse_assignments(assignments), "--set")
    return LogGPTConfig(**config.settings)


def test_the_papers_preset_can_be_asked_for_by_name():
    config = from_command_line("loggpt.preset=paper")
    assert {name: getattr(config, name) for name in PAPER} == dict(PAPER)
    assert (config.epochs, config.keep, config.shuffle, config.learn) == (
        100,
        "last",
        False,
        "frequency",
    )


def test_what_is_given_beside_a_preset_counts():
    config = from_command_line("loggpt.epochs=3", "loggpt.preset=paper", "loggpt.top_k=7")
    assert (config.epochs, config.top_k, config.batch_size) == (3, 7, 16)


def test_a_preset_survives_being_stored():
    config = from_command_line("loggpt.preset=paper", "loggpt.width=12")
    assert LogGPTConfig.model_validate(config.model_dump()) == config


def test_no_other_preset_is_known():
    with pytest.raises(ValidationError, match="preset"):
        LogGPTConfig(preset="theirs")


def test_settings_of_a_variant_are_a_group():
    config = from_command_line("loggpt.reward=ppo", "loggpt.ppo.kl=0.5", "loggpt.ppo.samples=8")
    assert (config.reward, config.ppo.kl, config.ppo.samples) == ("ppo", 0.5, 8)


def test_an_unknown_setting_of_a_variant_is_named_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"loggpt: unknown setting 'ppo\.sample'.*'ppo\.samples'"):
        from_command_line("loggpt.ppo.sample=8")


@pytest.mark.parametrize(
    "change",
    [
        {"reward": "dpo"},
        {"ppo": {"samples": 1}},
        {"ppo": {"clip": 1.0}},
        {"ppo": {"discount": 1.1}},
        {"reference": {"prompt_share": 0.0}},
        {"topk_margin": {"margin": -1.0}},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        LogGPTConfig(**change)


@pytest.mark.parametrize(("first_event", "flagged"), [(True, [True, True]), (False, [False, True])])
def test_the_released_rule_does_not_look_at_the_first_event(tmp_path, first_event, flagged):
    detector = unigram(tmp_path, top_k=3, first_event=first_event)
    found = detector.score(sessions([[77, 10], [10, 77]]))
    assert detector.paper_rule(found).tolist() == flagged
