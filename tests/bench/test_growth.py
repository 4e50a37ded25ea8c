import numpy as np
import pytest

from pictell.bench.growth import exponent, grow, plot
from pictell.errors import InputError


def test_exponents():
    pictures = [1000, 2000, 4000, 8000]
    assert exponent(pictures, [1, 2, 4, 8]) == pytest.approx(1)
    assert exponent(pictures, [1, 4, 16, 64]) == pytest.approx(2)
    assert exponent(pictures, [5, 5, 5, 5]) == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
def test_a_real_operation_is_measured_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = grow("encoding", sizes=(4, 8))
    assert found["pictures"] == [4, 8]
    assert np.all(np.array(found["seconds"]) > 0)
    assert np.all(np.array(found["peak_mb"]) > 50)
    assert not list(tmp_path.iterdir())
    plot({"encoding": found}, tmp_path / "growth.svg")
    assert "pictures to the power" in (tmp_path / "growth.svg").read_text()


def test_a_failure_is_told():
    with pytest.raises(InputError, match="measuring sorting of 3 pictures failed"):
        grow("sorting", sizes=(3,))
