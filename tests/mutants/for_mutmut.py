"""A plugin of pytest that makes mutmut 3.7, the newest whose `click` Faust bears, work here and tell the truth.

mutmut forks a process for each mutant out of the one in which it has run all tests before. Threads do not survive a
fork: RocksDB would wait for its own for ever, and every mutant of the stores would count as killed. So no test runs in
mutmut's own process (`pytest_cmdline_main`), which keeps one broker for all. Examples are the same for every mutant and
in every run, and fewer than else, for a mutant that lives takes all of them; and none counts as killed because the
machine is slow.
"""

from __future__ import annotations

import atexit
import io
import os
import pickle
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import mutmut
import pytest
from _pytest.main import pytest_cmdline_main as run
from hypothesis import HealthCheck, Phase, settings
from mutmut.state import state

import tests.deployment
import tests.simulation.run  # noqa: F401 - both: once here, and not for each mutant again
from stockweave.broker.kafka import EmbeddedKafka
from tests.conftest import _new_broker

MUTMUT = os.getpid()
EXAMPLES_MAX = 300

pytest.Item._nodeid = property(lambda item: item.nodeid)  # type: ignore[attr-defined]  # what pytest 9 calls `nodeid`
settings.register_profile(
    "mutmut",
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutmut")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Run what mutmut runs before the mutants in a process of its own, and take over what was learned there."""
    if os.getpid() != MUTMUT or config.option.collectonly:
        return None
    broker()
    with tempfile.TemporaryFile() as learned:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                sys.stdout = sys.stderr = said = io.StringIO()
                code = int(run(config))
                tests_of, callers = dict(mutmut.tests_by_mangled_function_name), dict(state().function_dependencies)
                pickle.dump((said.getvalue(), tests_of, mutmut.duration_by_test, callers), learned)
                learned.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        learned.seek(0)
        text, tests_of, durations, callers = pickle.load(learned)
    print(text)
    mutmut.tests_by_mangled_function_name.update(tests_of)
    mutmut.duration_by_test.update(durations)
    state().function_dependencies.update(callers)
    return os.waitstatus_to_exitcode(status)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Try fewer examples."""
    for item in items:
        test = getattr(item, "obj", None)
        used = getattr(test, "_hypothesis_internal_use_settings", None)
        if used is not None and used.max_examples > EXAMPLES_MAX:
            test._hypothesis_internal_use_settings = settings(used, max_examples=EXAMPLES_MAX)  # type: ignore[union-attr]


@cache
def broker() -> EmbeddedKafka:
    """For the tests of all mutants; each isolates itself as it would from other tests."""
    folder = Path(tempfile.mkdtemp(prefix="stockweave-broker-"))
    atexit.register(shutil.rmtree, folder)
    kafka = _new_broker(folder)
    atexit.register(kafka.stop)
    return kafka.start()


def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[EmbeddedKafka], request: pytest.FixtureRequest
) -> EmbeddedKafka | None:
    """Give it for the fixture of its name."""
    if fixturedef.argname != "broker":
        return None
    fixturedef.cached_result = (broker(), fixturedef.cache_key(request), None)  # type: ignore[arg-type]
    return broker()
