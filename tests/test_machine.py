"""What a measurement tells of the machine it was made on."""

import os
import subprocess
import sys
import time

import pytest

from pictell import machine
from pictell.machine import OtherLoad, hardware, processor_maker


def test_a_busy_program_is_seen():
    load = OtherLoad()
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(1.0)
        share = load.share
    finally:
        busy.kill()
        busy.wait()
    assert 0.3 / (os.cpu_count() or 1) < share <= 1


def test_ones_own_work_is_not_that_of_others():
    load = OtherLoad()
    own = time.process_time()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    own = time.process_time() - own
    share, elapsed = load.share, 0.5 * (os.cpu_count() or 1)
    # Nothing else need be idle: all that there is, less what this process took.
    assert share <= 1 - own / elapsed + 0.1


@pytest.mark.parametrize(
    ("cpuinfo", "system", "maker"),
    [
        ("processor : 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n", "", "AMD"),
        ("vendor_id\t: GenuineIntel\n", "", "Intel"),
        (None, "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD", "AMD"),
        (None, "Intel64 Family 6 Model 158 Stepping 10, GenuineIntel", "Intel"),
        (None, "arm", "arm"),
        ("processor : 0\n", "", ""),
    ],
)
def test_who_made_the_processor(tmp_path, monkeypatch, cpuinfo, system, maker):
    file = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        file.write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", file)
    monkeypatch.setattr(machine.platform, "processor", lambda: system)
    assert processor_maker.__wrapped__() == maker


def test_the_processor_has_a_name(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nvendor_id : AuthenticAMD\nmodel name : AMD EPYC 7R13\n")
    monkeypatch.setattr(machine, "_CPUINFO", file)
    assert hardware()["processor"] == "AMD EPYC 7R13"
