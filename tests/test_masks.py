"""Masks: each kind of variable, their order, the user's own, and what is refused."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.config import build
from oddlog.errors import ConfigError
from oddlog.masks import PATTERNS, SETS, Masks, mask, masks_for, token_of

CASES = [
    ("secret", "login password=hunter2, ok", "login password=<SECRET>, ok"),
    ("secret", "Api-Key: k39-a", "Api-Key: <SECRET>"),
    ("secret", "Authorization: Bearer abc.def-9", "Authorization: Bearer <SECRET>"),
    ("secret", "jwt eyJhbGciOi.eyJzdWIi.c2ln end", "jwt <SECRET> end"),
    ("secret", "Failed password for root", "Failed password for root"),
    ("url", "GET https://a.b/c?d=1 done", "GET <URL> done"),
    ("email", "mail to <ann.lee@example.org>", "mail to <<EMAIL>>"),
    ("time", "at 2015-10-18T18:01:47.978Z x", "at <TIME> x"),
    ("time", "at 2005-06-03-15.42.50.363779 x", "at <TIME> x"),
    ("time", "at Sun Jul 24 02:38:22 2005", "at <TIME>"),
    ("time", "since 18:01:47,978", "since <TIME>"),
    ("time", "ratio 3:4", "ratio 3:4"),
    ("uuid", "[instance: 70c1714b-c11b-4c88-b300-239afe1f5ff8]", "[instance: <UUID>]"),
    ("mac", "from 00:1b:21:3c:9d:f8 up", "from <MAC> up"),
    ("ip", "/10.251.71.240:50010 is", "/<IP> is"),
    ("ip", "10.0.0.1,10.0.0.2 GET", "<IP> GET"),
    ("ip", "peer fe80::1ff:fe23:4567 lost", "peer <IP> lost"),
    ("ip", "2001:db8:0:0:0:0:0:1 ok", "<IP> ok"),
    ("ip", "std::vector failed", "std::vector failed"),
    ("host", "proxy.cse.cuhk.edu.hk:5070 close", "<HOST> close"),
    ("host", "at (Main.java:52)", "at (Main.java:52)"),
    ("path", "open /etc/httpd/conf.d failed", "open <PATH> failed"),
    ("path", r"open C:\Windows\a.dll", "open <PATH>"),
    ("path", "and/or/nor", "and/or/nor"),
    ("block", "block blk_-160899 lost", "block <BLOCK> lost"),
    ("id", "task attempt_1445_0020_m_04 ok", "task <ID> ok"),
    ("id", "jk2_init() found", "jk2_init() found"),
    ("number", "took -3.5 ms, 12KB", "took <NUM> ms, <NUM>"),
    ("number", "x=+5 part-00081", "x=<NUM> part-<NUM>"),
    ("number", "list 1,2,3 v1", "list <NUM> v1"),
    ("hex", "at 0x00e462c0, mask 0x02", "at <HEX>, mask <HEX>"),
    ("bare_hex", "iar 001064fc", "iar <NUM>"),
    ("bgl_node", "R02-M1-N0-C:J12-U11 up", "<NODE> up"),
    ("bgl_register", "fpr12=x r3=y", "<REGISTER>=x <REGISTER>=y"),
    ("cluster_node", "node an123 and #7#", "node <NODE> and <NODE>"),
]


@pytest.mark.parametrize(("name", "message", "expected"), CASES)
def test_a_mask_replaces_its_kind_and_nothing_like_it(name, message, expected):
    assert mask(pl.Series([message]), Masks(names=(name,))).item() == expected


def test_every_named_mask_has_a_case():
    assert {name for name, _, _ in CASES} == set(PATTERNS)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_mask_finds_anything_in_the_token_of_another(name):
    tokens = pl.Series(sorted({token_of(other) for other in PATTERNS}))
    assert mask(tokens, Masks(names=(name,))).to_list() == tokens.to_list()


@pytest.mark.parametrize("layout", SETS)
def test_masking_twice_changes_nothing_more(layout):
    once = mask(pl.Series([message for _, message, _ in CASES]), masks_for(layout))
    assert mask(once, masks_for(layout)).to_list() == once.to_list()


def test_hdfs_variables_get_names_and_the_block_wins_over_its_number():
    line = "Received block blk_-1608999687919862906 of size 67108864 from /10.250.19.102"
    masked = mask(pl.Series([line]), masks_for("hdfs")).item()
    assert masked == "Received block <BLOCK> of size <NUM> from /<IP>"


def test_a_layout_without_a_set_gets_the_generic_one():
    assert masks_for("nginx") == Masks()


def test_own_masks_come_first_and_write_their_name():
    masks = Masks(own={"job": "job-[0-9]+"})
    assert mask(pl.Series(["job-17 took 3 s"]), masks).item() == "<JOB> took <NUM> s"


def test_a_kept_group_stays_in_front_of_the_token():
    masks = Masks(names=(), own={"user": r"(?P<keep>user=)\S+"})
    assert mask(pl.Series(["a user=bob user=ann"]), masks).item() == "a user=<USER> user=<USER>"


def test_order_name_and_length_of_the_column_stay():
    messages = pl.Series("message", ["b 1", None, "", "a 2", "b 1"])
    masked = mask(messages, Masks())
    assert masked.name == "message"
    assert masked.to_list() == ["b <NUM>", "", "", "a <NUM>", "b <NUM>"]


def test_repeats_are_masked_as_they_are_alone():
    messages = pl.Series(["lost 10.0.0.1", "took 3 s"] * 50)
    assert mask(messages, Masks()).to_list() == ["lost <IP>", "took <NUM> s"] * 50


def test_an_empty_column_stays_empty():
    assert mask(pl.Series([], dtype=pl.String), Masks()).len() == 0


@settings(max_examples=60)
@given(st.lists(st.text(max_size=60), max_size=8))
def test_any_text_is_masked_line_by_line(texts):
    together = mask(pl.Series(texts, dtype=pl.String), Masks()).to_list()
    assert together == [mask(pl.Series([text]), Masks()).item() for text in texts]


def test_an_unknown_mask_is_named_with_its_nearest():
    with pytest.raises(ConfigError, match=r"no mask named 'uid'.*did you mean 'uuid'"):
        Masks(names=("uid",))


def test_a_bad_pattern_is_named():
    with pytest.raises(ConfigError, match=r"masks\.own\.job: '\(\[a-z' is not a usable regular"):
        Masks(own={"job": "([a-z"})


def test_look_around_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"look-around.*\(\?P<keep>"):
        Masks(own={"job": r"(?<=job )\d+"})


def test_a_pattern_that_matches_nothing_at_all_is_refused():
    with pytest.raises(ConfigError, match="matches the empty text"):
        Masks(own={"any": "[0-9]*"})


@pytest.mark.parametrize("name", ["Job", "job1", "a b", "*", ""])
def test_a_name_that_would_spoil_its_token_is_refused(name):
    with pytest.raises(ConfigError, match="small letters"):
        Masks(own={name: "x"})


def test_a_bad_mask_in_a_configuration_file_is_an_error_of_configuration():
    with pytest.raises(ConfigError, match=r"masks\.own\.job"):
        build(Masks, {"own": {"job": "("}}, "oddlog.toml")
