"""Sex and age of a patient, from a table or a DICOM header. They form subgroups of results; no model reads them."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

SEX, AGE = "sex", "age"
# Columns that are read, in any letter case, with spaces or underscores.
COLUMNS = {
    **dict.fromkeys(("sex", "gender", "patient_sex", "patient_gender"), SEX),
    **dict.fromkeys(("age", "patient_age"), AGE),
}
MOST_YEARS = 130.0
_SEXES = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M", "o": "O", "other": "O"}
_DAYS = {"Y": 365.25, "M": 365.25 / 12, "W": 7.0, "D": 1.0}  # units of DICOM's ages, and of their days
_AGE = re.compile(r"(\d{1,4}(?:[.,]\d+)?)\s*([YMWD]?)", re.IGNORECASE)
_BANDS = (18, 40, 60, 80)


def find_columns(names: Iterable[object]) -> dict[str, Any]:
    """Finds the columns of sex and age in a table.

    Args:
        names: iterable of the names of columns.

    Returns:
        dict of `"sex"` and `"age"` to the first column of each, as it is named; empty if there is none.

    Example:
        >>> find_columns(["id", "Patient Age", "sex", "gender"])
        {'age': 'Patient Age', 'sex': 'sex'}
    """
    found: dict[str, Any] = {}
    for name in names:
        attribute = COLUMNS.get("_".join(str(name).lower().split()))
        if attribute:
            found.setdefault(attribute, name)
    return found


def read_attributes(values: Mapping[str, Any]) -> dict[str, str | float]:
    """Reads sex and age; what cannot be read is left out, because no result depends on it.

    Args:
        values: mapping of `"sex"` and `"age"` to a cell of a table or a value of a DICOM header.

    Returns:
        dict of `"sex"` to `"F"`, `"M"` or `"O"` (other), and of `"age"` to years, a float in [0, 130].

    Example:
        >>> read_attributes({"sex": "female", "age": "061Y"}), read_attributes({"sex": "?", "age": "006M"})
        ({'sex': 'F', 'age': 61.0}, {'age': 0.5})
    """
    found: dict[str, str | float] = {}
    sex = _SEXES.get(str(values.get(SEX, "")).strip().lower())
    if sex:
        found[SEX] = sex
    age = _read_age(values.get(AGE))
    if age is not None:
        found[AGE] = age
    return found


def _read_age(value: Any) -> float | None:
    match = _AGE.fullmatch(str(value).strip()) if value is not None else None
    if match is None:
        return None
    unit = match[2].upper() or "Y"
    years = float(match[1].replace(",", ".")) * _DAYS[unit] / _DAYS["Y"]
    return years if math.isfinite(years) and years <= MOST_YEARS else None


def join_attributes(rows: Iterable[Mapping[str, str | float]]) -> dict[str, str | float]:
    """Joins what the rows of one study say; an attribute on which any two of them differ is left out.

    Example:
        >>> join_attributes([{"sex": "F", "age": 61.0}, {"age": 62.0}, {"age": 61.0}])
        {'sex': 'F'}
    """
    found: dict[str, set[str | float]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, set()).add(value)
    return {name: values.pop() for name, values in found.items() if len(values) == 1}


def name_age_band(years: float) -> str:
    """Names the age band of a patient.

    Example:
        >>> [name_age_band(years) for years in (0.5, 17.9, 18, 61, 95)]
        ['0-17', '0-17', '18-39', '60-79', '80 and over']
    """
    for low, high in zip((0, *_BANDS), _BANDS):
        if years < high:
            return f"{low}-{high - 1}"
    return f"{_BANDS[-1]} and over"
