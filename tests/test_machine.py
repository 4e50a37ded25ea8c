"""What a measurement tells of the machine it was made on."""

import os
import subprocess
import sys
import time

from pictell.machine import OtherLoad


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
