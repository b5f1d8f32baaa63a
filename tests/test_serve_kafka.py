"""Lines from a broker, over TCP: each judged, none twice, offsets after the alerts."""

from contextlib import contextmanager

import pytest

from oddlog.errors import ConfigError
from oddlog.serve.kafka import KafkaConfig, KafkaReader, read_settings
from oddlog.serve.service import Service
from serving import BURNS, config, hurried, running, story, wait_for
from watching import ODD, fitted, lines

kafka = pytest.importorskip("confluent_kafka")
EARLY = {"session.timeout.ms": "6000"}


@pytest.fixture(scope="module")
def brokers():
    """Run librdkafka's own cluster of one broker, and return its address."""
    cluster = kafka.Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    cluster.flush(1)


def produce(brokers, topic, texts):
    producer = kafka.Producer({"bootstrap.servers": brokers})
    for text in texts:
        producer.produce(topic, text.encode(), partition=0)
    assert producer.flush(20) == 0


def committed(brokers, topic, group):
    consumer = kafka.Consumer({"bootstrap.servers": brokers, "group.id": group})
    (place,) = consumer.committed([kafka.TopicPartition(topic, 0)], timeout=10)
    consumer.close()
    return place.offset


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
def test_lines_of_a_topic_become_alerts_and_are_committed(tmp_path, brokers):
    produce(brokers, "logs", story())
    with reading(tmp_path, brokers, "logs") as service:
        (alert,) = wait_for(service.store.alerts, 60)
        wait_for(lambda: service.worker.position == 123)
    assert (alert.session, alert.source) == (BURNS, "logs")
    assert committed(brokers, "logs", "oddlog-logs") == 123


@pytest.mark.slow
def test_a_service_that_comes_back_goes_on_and_judges_nothing_twice(tmp_path, brokers):
    produce(brokers, "again", story())
    with reading(tmp_path, brokers, "again") as service:
        wait_for(lambda: service.worker.position == 123, 60)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(KafkaReader, "_commit", lambda *args, **options: None)  # as if it had died
        produce(brokers, "again", lines([ODD], 3000, 10_000))
        with reading(tmp_path, brokers, "again") as service:
            wait_for(lambda: service.worker.position == 126, 60)
    with reading(tmp_path, brokers, "again") as service:
        produce(brokers, "again", lines([ODD], 4000, 20_000))
        wait_for(lambda: service.worker.position >= 129, 60)
        assert service.worker.position == 129


@pytest.mark.slow
def test_the_offset_is_kept_with_the_alerts(tmp_path, brokers):
    produce(brokers, "kept", story())
    with reading(tmp_path, brokers, "kept") as service:
        wait_for(lambda: service.worker.position == 123, 60)
        assert service.store.offsets() == {"kept/0": 123}


@pytest.mark.slow
def test_a_message_that_cannot_be_read_is_counted_and_passed_over(tmp_path, brokers):
    produce(brokers, "mixed", ["{no json", '{"line": "fine"}'])
    service = Service(fitted(), config(tmp_path), clock=hurried())
    found = KafkaConfig.parse(f"kafka://{brokers}/mixed?format=json", EARLY)
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
