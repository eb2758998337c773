"""A plugin of pytest for mutmut 3.7, the newest whose `click` Faust bears: it reads what pytest 9 calls `nodeid`."""

from __future__ import annotations

import pytest

pytest.Item._nodeid = property(lambda item: item.nodeid)  # type: ignore[attr-defined]
