"""A run takes as many devices as it is told to, and no more than there are."""

import jax
import pytest

from jaxseg.checks import UserError
from jaxseg.experiment.devices import check_batch_size, make_mesh


class Device:
    """Stands for an accelerator."""

    process_index, platform, device_kind = 0, "cpu", "cpu"

    def __init__(self, number):
        self.id = number


def test_a_mesh_has_the_first_devices_or_all(monkeypatch):
    three = [Device(number) for number in range(3)]
    monkeypatch.setattr(jax, "devices", lambda: three)
    assert [list(make_mesh(count).devices) for count in (0, 1, 2)] == [three, three[:1], three[:2]]
    with pytest.raises(UserError, match="config.train.devices=4, but JAX sees 3"):
        make_mesh(4)


def test_a_batch_that_the_devices_cannot_share_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [Device(number) for number in range(3)])
    check_batch_size(6, make_mesh(0))
    with pytest.raises(UserError, match="batch_size=4 does not split over 3 devices. Use e.g. 3."):
        check_batch_size(4, make_mesh(0))
