"""Read a table of answers: which landmarks it names, and which photos to look at yourself.

obelisk recognize holiday/ --parquet answers.parquet
python examples/read_answers.py answers.parquet
"""

import sys

import polars as pl

if len(sys.argv) != 2:
    sys.exit(__doc__)
try:
    answers = pl.read_parquet(sys.argv[1])  # the same table as obelisk.to_polars(answers)
except (OSError, pl.exceptions.PolarsError) as error:
    sys.exit(f"{sys.argv[1]} is no table of answers: {error}")
named = answers.filter(pl.col("verdict") == "sure").group_by("landmark")
print(named.agg(pl.len().alias("photos"), pl.col("confidence").mean()).sort("photos", descending=True))

first = pl.col("candidates").list.first()
doubtful = answers.filter(pl.col("verdict") == "probable").with_columns(first.struct.field("landmark").alias("perhaps"))
print(doubtful.select("photo", "perhaps", "confidence"))

for error in answers["error"].drop_nulls():
    print("not read:", error)
