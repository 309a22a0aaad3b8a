"""How long an agent was out of touch, by clocks that may be wrong, and the bytes that a link allows."""

from __future__ import annotations

import pytest

from headway_edge.bucket import Bucket
from headway_edge.lease import Heard, Lease, since_restart

HEARD = Heard("boot-1", 500.0, 1_700_000_000.0)
HOUR = 3_600.0


def test_within_one_boot_the_wall_clock_is_not_asked() -> None:
    for wrong in (-HOUR, 0.0, HOUR):
        here = Heard("boot-1", 560.0, HEARD.wall + 60.0 + wrong)
        assert since_restart(HEARD, here, 10.0) == pytest.approx(-50.0)


def test_after_a_power_cut_the_wall_clock_counts_if_it_can_be_right() -> None:
    assert since_restart(HEARD, Heard("boot-2", 5.0, HEARD.wall + 600.0), 10.0) == pytest.approx(-590.0)
    assert since_restart(HEARD, Heard("boot-2", 5.0, 0.0), 10.0) is None, "its battery is empty"
    assert since_restart(None, HEARD, 10.0) is None


def test_a_machine_that_does_not_know_its_boot_goes_by_the_wall_clock() -> None:
    assert since_restart(Heard("", 1.0, 100.0), Heard("", 1.0, 130.0), 0.0) == -30.0


def test_an_allowance_is_used_up_at_its_end_and_not_known_before_the_first_answer() -> None:
    lease = Lease()
    assert not lease.may_begin(3600.0, 10.0, 0.0)
    lease.heard(100.0)
    lease.heard(90.0)  # an answer that was overtaken
    assert lease.may_begin(60.0, 10.0, 159.9) and not lease.may_begin(60.0, 10.0, 160.0)
    assert lease.may_begin(0.0, 10.0, 119.9) and not lease.may_begin(0.0, 10.0, 120.0)


def test_a_bucket_keeps_the_mean_whatever_the_messages() -> None:
    bucket = Bucket(100_000.0)
    now = sent = 0.0
    for size in [1_000, 250_000, 50_000, 100_000, 10] * 20:
        now += bucket.wait(size, now)
        assert bucket.take(size, now)
        sent += size
    assert sent <= 100_000 * now + 250_000 + 100_000
    assert sent >= 100_000 * now * 0.9


def test_a_bucket_without_a_rate_holds_nothing_back() -> None:
    bucket = Bucket(0.0)
    assert bucket.take(10**12, 0.0) and bucket.wait(10**12, 0.0) == 0.0
