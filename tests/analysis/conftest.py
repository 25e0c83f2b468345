"""Finished runs that pictures are made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from enformer_ray.planning.plan import make_plan
from enformer_ray.publish.finalise import finalise
from enformer_ray.rundir.store import LocalStore
from tests.analysis.hostile import hostile_run
from tests.run_fixtures import score_without_ray
from tests.small_world import make_world, small_job

GTF = """\
##description: genes of the demo's world
chr1\ttest\tgene\t30001\t45000\t.\t+\t.\tgene_id "G1"; gene_type "protein_coding"; gene_name "<b>ONE</b>";
chr1\ttest\texon\t30001\t30500\t.\t+\t.\tgene_id "G1"; gene_name "<b>ONE</b>";
chr1\ttest\texon\t30400\t31000\t.\t+\t.\tgene_id "G1"; gene_name "<b>ONE</b>";
chr1\ttest\ttranscript\t60001\t64000\t.\t-\t.\tgene_id "G2"; gene_biotype "lncRNA";
chr1\ttest\tCDS\t1\t100\t.\t-\t.\tgene_id "G9";
chr2\ttest\tgene\t20001\t70000\t.\t-\t.\tgene_id "G3"; gene_type "protein_coding"; gene_name "THREE";
"""


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of summary statistics whose names are markup and worse."""
    return hostile_run(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's run, scored by its network in this process."""
    folder = tmp_path_factory.mktemp("demo")
    store = LocalStore(folder / "run")
    make_plan(small_job(make_world(folder / "input"), folder / "run"), store)
    score_without_ray(store)
    finalise(store)
    return store.root


@pytest.fixture(scope="session")
def gtf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Genes on the demo's contigs."""
    path = tmp_path_factory.mktemp("genes") / "genes.gtf"
    path.write_text(GTF)
    return path
