"""Whether the machine keeps up, told from what the kernel counts."""

from __future__ import annotations

import pytest

from podlab.checks import calm

SECOND = 1_000_000


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(share, ...): a kernel that counts that share of each look as waited for; the last one goes on."""

    def of(*shares: float):
        file, total, left = tmp_path / "cpu", 7 * SECOND, list(shares)

        def write() -> None:
            file.write_text(
                f"some avg10=1.53 avg60=1.87 avg300=1.73 total={int(total)}\n"
                "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
            )

        def pause(seconds: float) -> None:
            nonlocal total
            total += (left.pop(0) if len(left) > 1 else left[0]) * seconds * SECOND
            write()

        write()
        monkeypatch.setattr(calm, "pause", pause)
        return file

    return of


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_pressure_is_the_share_of_the_look_in_which_somebody_waited(machine, share):
    assert calm.pressure(source=machine(share)) == pytest.approx(share, abs=1e-6)


def test_waiting_ends_with_the_first_calm_look(machine):
    assert calm.wait(patience=60, source=machine(0.9, 0.95, 0.2))


def test_patience_has_an_end(machine):
    assert not calm.wait(patience=0.01, source=machine(0.99))


@pytest.mark.parametrize("text", [None, "", "something else\n"])
def test_a_kernel_that_does_not_count_keeps_nobody_waiting(tmp_path, text):
    file = tmp_path / "cpu"
    if text is not None:
        file.write_text(text)
    assert calm.pressure(source=file) == 0.0 and calm.wait(patience=60, source=file)


def test_this_kernel_is_understood():
    assert 0.0 <= calm.pressure(0.05) <= 1.0
