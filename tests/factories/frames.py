"""A frame by duck typing, as pandas and polars have it: columns by name, iterated row by row."""

import math


class StubFrame:
    """The members of a DataFrame that kmm uses. Missing cells are NaN, as in pandas."""

    def __init__(self, records):
        self.columns = list({name: None for record in records for name in record})
        self._records = records

    def __len__(self):
        return len(self._records)

    def __getitem__(self, name):
        return [math.nan if (value := record.get(name)) is None else value for record in self._records]
