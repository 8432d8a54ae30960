"""Histograms of durations. Each bucket is 5% wider than the one before, and histograms can be added up.

A percentile is at most 2.5% off. A histogram is {bucket: count}; in JSON the buckets are texts.
"""

import math
from collections import Counter
from collections.abc import Mapping

WIDTH = 1.05
LOG_WIDTH = math.log(WIDTH)


def bucket_of(milliseconds: int) -> int:
    """0 below a millisecond, else 1 and up."""
    return 0 if milliseconds < 1 else 1 + math.floor(math.log(milliseconds) / LOG_WIDTH)


def middle_of(bucket: int) -> float:
    """Milliseconds: the geometric middle of a bucket."""
    return 0.0 if bucket == 0 else WIDTH ** (bucket - 0.5)


def percentile(histogram: Mapping[int, int], share: float) -> float | None:
    """The percentile in milliseconds, by nearest rank. `None` if there are no durations."""
    rank = math.ceil(share * sum(histogram.values()))
    for bucket in sorted(histogram):
        rank -= histogram[bucket]
        if rank <= 0:
            return middle_of(bucket)
    return None


def loaded(stored: Mapping[str, int]) -> Counter[int]:
    return Counter({int(bucket): count for bucket, count in stored.items()})


def stored(histogram: Mapping[int, int]) -> dict[str, int]:
    return {str(bucket): count for bucket, count in sorted(histogram.items())}
