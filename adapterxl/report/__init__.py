"""Reports: scores of several modules compared language by language, as HTML, CSV and in the terminal."""

from __future__ import annotations

from adapterxl.report.html import report
from adapterxl.report.terminal import to_table

__all__ = ["report", "to_table"]
