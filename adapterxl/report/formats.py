"""How numbers are written in a report: percent with one decimal, points with a sign, readable sizes."""

from __future__ import annotations

from adapterxl.report.statistics import Estimate

DASH = "–"
MINUS = "\N{MINUS SIGN}"
NOT_SHOWN = "no difference shown"


def percent(cell: Estimate | None) -> str:
    """Return the mean in percent, such as "61.2"; a dash where there is none."""
    return DASH if cell is None else _tidy(f"{cell.mean * 100:.1f}")


def points(cell: Estimate | None) -> str:
    """Return the mean in points of percent with its sign, such as "+1.3"; "0.0" has none."""
    if cell is None:
        return DASH
    return _tidy(f"{cell.mean * 100:+.1f}")


def interval(cell: Estimate | None, signed: bool = False) -> str:
    """Return "[49.8, 52.6]", in percent or in signed points, or "" where there is no interval."""
    if cell is None or cell.low is None or cell.high is None:
        return ""
    low, high = (_tidy(f"{end * 100:+.1f}" if signed else f"{end * 100:.1f}") for end in (cell.low, cell.high))
    return f"[{low}, {high}]"


def verdict(cell: Estimate | None) -> str:
    """Return what the test of a difference says: "difference shown", "no difference shown", "not tested"."""
    if cell is None:
        return ""
    return {True: "difference shown", False: NOT_SHOWN, None: "not tested"}[cell.shown]


def p_value(value: float | None) -> str:
    """Return "0.012" or "<0.002" near the smallest that the resamples can give; "" for None."""
    if value is None:
        return ""
    return "<0.002" if value < 0.002 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def size(count: int | None) -> str:
    """Return bytes as "1.2 MB" (powers of 1000); a dash where unknown."""
    if count is None:
        return DASH
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def duration(seconds: float | None) -> str:
    """Return seconds as "45 s", "3 min 20 s" or "2 h 5 min"; a dash where unknown."""
    if seconds is None:
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def span(values: tuple[int, int] | None) -> str:
    """Return "200" or "150–200"; a dash where there is none."""
    if values is None:
        return DASH
    low, high = values
    return f"{low:,}" if low == high else f"{low:,}{DASH}{high:,}"


def listed(values: list[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"


def _tidy(text: str) -> str:
    return "0.0" if text in ("-0.0", "+0.0") else text.replace("-", MINUS)
