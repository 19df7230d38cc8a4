import pytest

from singsong_jax.errors import InputError
from singsong_jax.inference import memory


@pytest.mark.parametrize(("available", "words"), [(4 * 2**30, "at most 2 fit"), (2**30, "not even one fits")])
def test_more_samples_than_fit(monkeypatch, available, words):
  monkeypatch.setattr(memory, "available_bytes", lambda: available)
  with pytest.raises(InputError, match=rf"samples=1000000 would take 1500000\.00 GiB.*{words}"):
    memory.check_samples(10**6, lambda samples: samples * 3 * 2**29)


@pytest.mark.parametrize("available", [None, 2**30])
def test_what_fits_or_cannot_be_told_passes(monkeypatch, available):
  monkeypatch.setattr(memory, "available_bytes", lambda: available)
  memory.check_samples(4, lambda samples: samples * 2**28)


def test_this_machine_says_what_is_available():
  found = memory.available_bytes()
  assert found is None or 2**20 < found < 2**50
