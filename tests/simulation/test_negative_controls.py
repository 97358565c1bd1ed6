"""With any one guard switched off the simulation finds something, and without what is no guard it finds nothing."""

from __future__ import annotations

import pytest

from tests.simulation.controls import CONTROLS, HARMLESS, Control
from tests.simulation.run import first_found
from tests.simulation.stores import Stores

pytestmark = pytest.mark.long


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.guard)
def test_without_this_guard_something_is_off(stores: Stores, control: Control) -> None:
    with control.off(stores):
        found, _ = first_found(stores, control.profile, control.within, control.seed)
    assert found is not None, f"nothing was off in {control.within} histories without this guard"


@pytest.mark.parametrize("control", HARMLESS, ids=lambda control: control.guard)
def test_without_this_nothing_is_off(stores: Stores, control: Control) -> None:
    with control.off(stores):
        found, _ = first_found(stores, control.profile, control.within, control.seed)
    assert found is None, str(found)
