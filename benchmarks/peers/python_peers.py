"""What the peers in Python share: their programs, and the schema file that these read."""

from __future__ import annotations

from pathlib import Path

import schemas

PROGRAMS = Path(__file__).with_name("programs")
SCHEMA = Path(schemas.__file__).with_name("avro") / "StockUpdate.1.avsc"
