"""Where the public sets come from: archives, published digests, what is taken out of them.

Digests are those that the publisher shows. Where there is none, the first download is trusted, and
told to be; every later one of the same folder is held against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 2**30
_LOGHUB = "https://zenodo.org/records/8196385/files/"
_CFDR = "http://0b4af6cdc2f0c5998459-c0245c5c937c5dedcca3f1764ecc9b2f.r43.cf2.rackcdn.com/hpc4/"
_LOGHUB_TERMS = "Loghub: free for research and academic work, to be cited (arXiv:2008.06448)"
_CFDR_TERMS = "USENIX CFDR: free, to be cited (Oliner & Stearley, DSN 2007)"


@dataclass(frozen=True)
class Origin:
    """One archive, and what a data folder gets of it.

    Attributes:
        url: Where it is published; the last part is the file's name on mirrors as well.
        members: Path in the archive (or, where it ends with "/", all files below that path) to
            the place below the data folder. Empty where the file is taken as it is.
        place: Where a file that is taken as it is goes.
        digest: "md5:..." or "sha256:...", as published; None where nothing is.
        most: Largest number of bytes that unpacking may write.
        terms: Licence, and whom to cite.
    """

    url: str
    most: int
    terms: str
    members: Mapping[str, str] | None = None
    place: str = ""
    digest: str | None = None

    @property
    def file(self) -> str:
        """The archive's name."""
        return self.url.rpartition("/")[2]

    @property
    def places(self) -> tuple[str, ...]:
        """What the data folder gets: files, or folders where the name ends with "/"."""
        return tuple(self.members.values()) if self.members else (self.place,)


ORIGINS: Mapping[str, Origin] = {
    "hdfs_log": Origin(
        _LOGHUB + "HDFS_v1.zip",
        members={
            "HDFS.log": "hdfs/HDFS.log",
            "preprocessed/anomaly_label.csv": "hdfs/anomaly_label.csv",
        },
        digest="md5:76a24b4d9a6164d543fb275f89773260",
        most=4 * GIB,
        terms=_LOGHUB_TERMS,
    ),
    "bgl_log": Origin(
        _LOGHUB + "BGL.zip",
        members={"BGL.log": "bgl/BGL.log"},
        digest="md5:4452953c470f2d95fcb32d5f6e733f7a",
        most=4 * GIB,
        terms=_LOGHUB_TERMS,
    ),
    "thunderbird_log": Origin(
        _LOGHUB + "Thunderbird.tar.gz",
        members={"Thunderbird.log": "thunderbird/Thunderbird.log"},
        digest="md5:0891b048df2919dc78c99c4428686b44",
        most=64 * GIB,
        terms=_LOGHUB_TERMS,
    ),
    "openstack_log": Origin(
        _LOGHUB + "OpenStack.tar.gz",
        members={
            name: f"openstack/{name}"
            for name in (
                "openstack_normal1.log",
                "openstack_normal2.log",
                "openstack_abnormal.log",
                "anomaly_labels.txt",
            )
        },
        digest="md5:66bd42c07837a094d9b0ea2d036b5713",
        most=GIB,
        terms=_LOGHUB_TERMS,
    ),
    "hadoop_log": Origin(
        _LOGHUB + "Hadoop.zip", members={"": "hadoop/log/"}, most=GIB, terms=_LOGHUB_TERMS
    ),
    "liberty_log": Origin(
        _CFDR + "liberty2.gz", place="liberty/liberty2.gz", most=2 * GIB, terms=_CFDR_TERMS
    ),
    "spirit_log": Origin(
        _CFDR + "spirit2.gz", place="spirit/spirit2.gz", most=2 * GIB, terms=_CFDR_TERMS
    ),
}
"""Raw logs that can be fetched; those that ``open_dataset`` reads have the same name there."""
