"""Real logs: what ``auto`` picks for each, and that it reads what the ground truth reads."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from oddlog.formats import ReadReport, read_events

pytestmark = pytest.mark.data
REFERENCE = datetime(2018, 1, 1, tzinfo=UTC)

# system: format picked, events with a level, share of messages equal to Loghub's Content.
# Where the share is below 1 the message is longer: HealthApp, Proxifier and Windows have a
# component that ``timestamped`` knows nothing of, Mac and Linux names of processes with a space.
SYSTEMS = {
    "Android": ("logcat", True, 1.0),
    "Apache": ("apache_error", True, 1.0),
    "BGL": ("bgl", True, 1.0),
    "HDFS": ("hdfs", True, 1.0),
    "HPC": ("hpc", False, 1.0),
    "Hadoop": ("log4j", True, 1.0),
    "HealthApp": ("timestamped", False, 0.0),
    "Linux": ("syslog", False, 0.99),
    "Mac": ("syslog", False, 0.96),
    "OpenSSH": ("syslog", False, 1.0),
    "OpenStack": ("openstack", True, 1.0),
    "Proxifier": ("timestamped", False, 0.0),
    "Spark": ("log4j", True, 1.0),
    "Thunderbird": ("thunderbird", False, 0.99),
    "Windows": ("timestamped", True, 0.0),
    "Zookeeper": ("zookeeper", True, 1.0),
}


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def read(system: str, data_folder: Path) -> tuple[pl.DataFrame, ReadReport]:
    path = next((data_folder / "loghub_2k" / system).glob("*.log"))
    return read_events(path, reference=REFERENCE)


def test_auto_picks_the_format_of_each_system(
    system: str, read: tuple[pl.DataFrame, ReadReport]
) -> None:
    assert read[1].format == SYSTEMS[system][0]


def test_every_line_of_each_system_is_an_event_with_a_time(
    read: tuple[pl.DataFrame, ReadReport],
) -> None:
    assert (read[1].n_events, read[0]["time"].null_count()) == (2000, 0)


def test_levels_are_read_where_a_system_has_them(
    system: str, read: tuple[pl.DataFrame, ReadReport]
) -> None:
    known = 2000 if SYSTEMS[system][1] else 0
    assert read[0]["level"].count() == known


def test_messages_are_those_of_the_ground_truth(
    system: str, read: tuple[pl.DataFrame, ReadReport], data_folder: Path
) -> None:
    table = next((data_folder / "loghub_2k" / system).glob("*_structured.csv"))
    content = pl.read_csv(table, infer_schema=False)["Content"].fill_null("")
    same = (read[0]["message"].str.strip_chars() == content.str.strip_chars()).mean()
    assert same is not None
    assert same >= SYSTEMS[system][2]


def test_the_hdfs_sample_has_the_blocks_of_its_labels(data_folder: Path) -> None:
    events, report = read_events(data_folder / "hdfs" / "HDFS_2pct.log.gz")
    labels = pl.read_csv(data_folder / "hdfs" / "anomaly_label_2pct.csv")
    blocks = events["sessions"].explode().unique()
    assert (report.n_events, report.n_unmatched) == (222_579, 0)
    assert set(blocks) >= set(labels["BlockId"])


def test_the_bgl_sample_has_its_alerts(data_folder: Path) -> None:
    events, _ = read_events(data_folder / "bgl" / "bgl_100k.log.gz")
    alerts = events.filter(pl.col("label") != "")["label"].value_counts().rows()
    assert dict(alerts) == {
        "APPREAD": 2040,
        "KERNDTLB": 477,
        "KERNRTSP": 91,
        "R_DDR_EXC": 4,
        "KERNMC": 1,
    }
