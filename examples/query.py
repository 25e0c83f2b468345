"""Read a finished run: select tracks and variants, as tables of Arrow, Polars and pandas, or with SQL.

python examples/query.py demo-run/run
"""

import sys

import enformer_ray as e

scores = e.open_scores(sys.argv[1])  # a folder, s3:// or gs://; or a list of runs
statistic = scores.statistics[0]
print(f"{', '.join(scores.statistics)} of {scores.track_table.num_rows} tracks")

# A selection is a new dataset; nothing is read before a method that begins with `to_` is called.
selected = scores.tracks(0, 1).where(region="chr1")
print(selected.to_polars(statistic).collect())

# The largest scores of each variant's row, whatever the track.
for row in scores.top(statistic, 3).to_pylist():
    print(row["variant_id"], row["track"], round(row["score"], 4))

# Tables: inputs (every input allele), variants, tracks, and one for each statistic.
print(scores.to_duckdb().sql("SELECT status, reason, count(*) AS alleles FROM inputs GROUP BY ALL ORDER BY ALL"))
