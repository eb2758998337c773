"""The planted defects fit the code as it is; whether they are seen is for `make mutants`, which takes minutes."""

from __future__ import annotations

from pathlib import Path

from tests.mutants.__main__ import look
from tests.mutants.planted import ROOT, Mutant, apply, mutants

PLANTED_MIN = 25


def test_every_patch_fits_and_names_its_law_and_its_tests_exist() -> None:
    planted = mutants()
    assert len(planted) >= PLANTED_MIN
    for mutant in planted:
        apply(mutant, ROOT, "--check")
        assert mutant.law.endswith("."), mutant.name
        assert all((ROOT / test).exists() for test in mutant.tests), mutant.name


def test_a_planted_defect_is_seen_and_none_is_where_none_is(tmp_path: Path) -> None:
    planted = {mutant.name: mutant for mutant in mutants()}
    seen = look(planted["duplicate-delta-applied"], seeds=20)
    assert (seen.check, seen.seeds >= 1) == ("simulation", True)
    harmless = tmp_path / "harmless.patch"
    harmless.write_text(
        "Nothing.\n\ndiff --git a/state/nothing.py b/state/nothing.py\nnew file mode 100644\n"
        "--- /dev/null\n+++ b/state/nothing.py\n@@ -0,0 +1 @@\n+# nothing\n"
    )
    assert look(Mutant("harmless", "Nothing.", harmless, ()), seeds=5).check is None
