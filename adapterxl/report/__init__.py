"""Reports: scores of several modules compared language by language, as HTML, Markdown, CSV and in the terminal."""

from __future__ import annotations

from adapterxl.report.markdown import to_markdown
from adapterxl.report.terminal import to_table
from adapterxl.report.writing import report

__all__ = ["report", "to_markdown", "to_table"]
