"""From a command to a server that listens, and to its end."""

import os
import signal
import subprocess
import sys

import httpx2
import pytest

from oddlog.errors import ArtifactError, ConfigError
from oddlog.serve.access import read_token
from oddlog.serve.run import Address, Settings, make_sinks, run
from serving import BURNS, story, wait_for
from watching import fitted

TOKEN = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    fitted().save(folder)
    return folder


@pytest.fixture
def token(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def test_the_command_takes_lines_and_ends_when_told(tmp_path, model, token):
    command = [sys.executable, "-m", "oddlog.cli", "serve", model, "--port", "0"]
    command += ["--state", tmp_path / "state", "--token-file", token]
    run_main = "import sys; from oddlog.cli import main; sys.argv = sys.argv[1:]; main()"
    command[1:3] = ["-c", run_main, "oddlog"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as server:
        told = server.stderr.readline()
        url = told.split()[-1]
        assert "oddlog serves" in told
        bearer = {"authorization": f"Bearer {TOKEN}"}
        with httpx2.Client(base_url=url, headers=bearer) as client:
            text = {"content-type": "text/plain"}
            client.post("/v1/lines", content="\n".join(story()), headers=text).raise_for_status()
            found = wait_for(lambda: client.get("/v1/alerts").json()["alerts"])
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) in (0, -signal.SIGTERM)
        assert TOKEN not in server.stderr.read()
    assert found[0]["session"] == BURNS
    assert (tmp_path / "state" / "state.json.zst").exists()


def test_others_are_not_let_in_without_a_token():
    with pytest.raises(ConfigError, match="give --token-file"):
        Address(host="0.0.0.0").access()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_this_machine_is_let_in_without_a_token(host):
    assert host in Address(host=host).access().hosts


def test_with_a_token_any_name_will_do_unless_names_are_given(token):
    assert Address(host="0.0.0.0", token_file=token).access().hosts == frozenset()
    named = Address(host="0.0.0.0", token_file=token, names=("Logs.example",)).access()
    assert "logs.example" in named.hosts
    assert "evil.example" not in named.hosts


@pytest.mark.parametrize("text", ["", "short", "two words that are long enough", "ümlaut" * 5])
def test_a_token_that_keeps_nobody_out_is_refused(text):
    with pytest.raises(ConfigError, match="openssl rand"):
        read_token(text, "token")


def test_a_token_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="none: cannot read the token"):
        Address(token_file=tmp_path / "none").access()


def test_a_token_does_not_show_in_what_is_printed(token):
    assert TOKEN not in repr(Address(token_file=token).access())


def test_a_missing_model_is_said_before_anything_listens(tmp_path):
    with pytest.raises(ArtifactError, match="no oddlog model there"):
        run(Settings(tmp_path / "none", tmp_path / "state"), Address(port=0), print)


def test_a_webhook_is_named_by_its_host_alone():
    url = "https://hooks.example/services/T0/SECRET"
    sinks = make_sinks([("slack", url), ("slack", url + "2"), ("generic", url)])
    assert len(sinks) == 3
    assert not any("SECRET" in name for name in sinks)


def test_a_webhook_that_is_no_url_is_refused():
    with pytest.raises(ConfigError, match="begins with http"):
        make_sinks([("generic", "file:///etc/passwd")])
