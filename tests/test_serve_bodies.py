"""Bodies are unpacked within their bound, or refused."""

import gzip
import zlib

import cramjam
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from oddlog.serve.bodies import unpack
from oddlog.serve.lines import RefusedError

PACKERS = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "snappy": lambda body: bytes(cramjam.snappy.compress_raw(body)),
}


@pytest.mark.parametrize("encoding", PACKERS)
@given(body=st.binary(max_size=2000))
def test_what_was_packed_comes_out_as_it_was(encoding, body):
    assert unpack(PACKERS[encoding](body), encoding, 2000) == body


@pytest.mark.parametrize("encoding", PACKERS)
def test_a_bomb_is_refused_as_too_large(encoding):
    packed = PACKERS[encoding](bytes(1 << 22))
    with pytest.raises(RefusedError) as refused:
        unpack(packed, encoding, 1 << 16)
    assert refused.value.status == 413


def test_what_fills_the_bound_to_the_byte_is_taken():
    assert len(unpack(gzip.compress(bytes(4096)), "gzip", 4096)) == 4096


def test_members_of_gzip_follow_each_other():
    assert unpack(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip", 100) == b"one two"


def test_many_members_of_gzip_do_not_pass_the_bound_together():
    with pytest.raises(RefusedError) as refused:
        unpack(gzip.compress(bytes(60)) * 3, "gzip", 100)
    assert refused.value.status == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "snappy"])
@pytest.mark.parametrize("kept", [3, 20, -1])
def test_packed_data_that_was_cut_is_refused_as_damaged(encoding, kept):
    packed = PACKERS[encoding](bytes(range(256)) * 8)
    with pytest.raises(RefusedError) as refused:
        unpack(packed[:kept], encoding, 1 << 16)
    assert refused.value.status == 400


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "snappy"])
@given(body=st.binary(max_size=400))
def test_bytes_of_any_kind_are_unpacked_or_refused(encoding, body):
    try:
        size = len(unpack(body, encoding, 1 << 16))
    except RefusedError:
        return
    assert size <= 1 << 16


def test_an_encoding_that_is_not_known_is_named():
    with pytest.raises(RefusedError, match="'br' is none of deflate, gzip") as refused:
        unpack(b"", "br", 10)
    assert refused.value.status == 415
