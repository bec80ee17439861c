"""Whether the machine keeps up, told from what the kernel counts."""

from __future__ import annotations

import pytest

from podlab.checks import calm

SECOND = 1_000_000


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(share, ...): a kernel that counts that share of each look as waited for; the last one goes on."""

    def of(*shares: float) -> None:
        file, now, total, left = tmp_path / "cpu", 100.0, 7 * SECOND, list(shares)

        def write() -> None:
            file.write_text(
                f"some avg10=1.53 avg60=1.87 avg300=1.73 total={int(total)}\n"
                "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
            )

        def pause(seconds: float) -> None:
            nonlocal now, total
            now += seconds
            total += (left.pop(0) if len(left) > 1 else left[0]) * seconds * SECOND
            write()

        write()
        monkeypatch.setattr(calm, "PRESSURE", file)
        monkeypatch.setattr(calm, "pause", pause)
        monkeypatch.setattr(calm.time, "monotonic", lambda: now)

    return of


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_pressure_is_the_share_of_the_look_in_which_somebody_waited(machine, share):
    machine(share)
    assert calm.pressure() == pytest.approx(share, abs=1e-6)


def test_a_meter_counts_from_its_making_on(machine):
    machine(1.0, 0.0, 0.5)
    calm.pause(10)
    meter = calm.Meter()
    assert meter.share() == 0.0
    calm.pause(2)
    calm.pause(2)
    assert meter.share() == pytest.approx(0.25, abs=1e-6)


def test_waiting_ends_with_the_first_calm_look(machine):
    machine(0.9, 0.95, 0.2, 0.99)
    began = calm.time.monotonic()
    assert calm.wait(patience=60)
    assert calm.time.monotonic() - began == 3 * calm.LOOK


def test_patience_has_an_end(machine):
    machine(0.99)
    began = calm.time.monotonic()
    assert not calm.wait(patience=60)
    assert calm.time.monotonic() - began == pytest.approx(60, abs=2 * calm.LOOK)


@pytest.mark.parametrize("text", [None, "", "something else\n"])
def test_a_kernel_that_does_not_count_keeps_nobody_waiting(tmp_path, monkeypatch, text):
    file = tmp_path / "cpu"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(calm, "PRESSURE", file)
    assert calm.Meter().share() == 0.0 and calm.pressure(0.01) == 0.0 and calm.wait(patience=60)


def test_this_kernel_is_understood():
    assert 0.0 <= calm.pressure(0.05) <= 1.0
