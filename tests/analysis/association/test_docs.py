"""The example of docs/association.md runs as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from enformer_ray.cli.main import main
from tests.analysis.association.world import make_genome, make_run, make_scores, simulate, write_sumstats

DOCS = Path(__file__).parents[3] / "docs" / "association.md"


def test_the_example_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo-run").mkdir()
    folder = tmp_path / "demo-run"
    variants = make_genome(folder, 500)
    scores = make_scores(len(variants))
    make_run(folder, variants, scores, write_sumstats(folder / "own.tsv", variants, simulate(scores, causal=5)))
    monkeypatch.chdir(tmp_path)
    text = DOCS.read_text()
    (python,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(python, str(DOCS), "exec"), {})
    _, command = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command)[1:])
    assert ended.value.code == 0
    best = pq.read_table("associated/tracks.parquet").sort_by("marginal_signed_spearman_p")
    assert best.column("index")[0].as_py() == 0
    assert best.column("marginal_signed_spearman_p")[0].as_py() < 1e-6
    assert best.column("log_odds")[0].as_py() > 0
