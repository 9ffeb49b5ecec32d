"""pyarrow, which ships no types, declared once as untyped. Importers name what they use."""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pa_compute
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pa_parquet

arrow: Any = pa
compute: Any = pa_compute
csv: Any = pa_csv
json: Any = pa_json
parquet: Any = pa_parquet
types: Any = arrow.types

BROKEN: tuple[type[Exception], ...] = (arrow.ArrowException, OSError, ValueError)
"""What pyarrow raises for a damaged file. Most of its errors are ValueErrors as well."""
