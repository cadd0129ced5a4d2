"""Whatever a function does in its process, its call ends in one outcome with one clear line."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from textwrap import dedent

import psutil
import pytest
from conftest import ROOT

from llmm.errors import UserError
from llmm.ladder.expect import WrongAnswer, expect_number, expect_shape, expect_type
from llmm.ladder.overlay import Overlay, Source, learner_sources
from llmm.ladder.workers import Call, Limits, run, run_all, start_server

ODD = dedent(
    """
    import os
    import subprocess
    import sys
    import time


    def endless():
        while True:
            pass


    def endless_with_child():
        child = subprocess.Popen(["sleep", "300"])
        print(child.pid, file=open("child.pid", "w"), flush=True)
        endless()


    def blow_up():
        rows = []
        while True:
            rows.append(bytearray(1 << 24))


    def blow_up_numpy():
        import numpy as np

        return float(np.ones((1 << 17, 1 << 17)).sum())


    def raises():
        return 1 / 0


    def leaves():
        sys.exit("leaving")


    def dies():
        os._exit(7)


    def crashes():
        os.kill(os.getpid(), 11)


    def lambda_():
        return lambda: None


    def answer(value=42):
        print("noise")
        return value


    def one_thread():
        return os.environ["OMP_NUM_THREADS"]
    """
)
LIMITS = Limits(seconds=30, mebibytes=256)
SHORT = Limits(seconds=2, mebibytes=256)


@pytest.fixture(scope="module", autouse=True)
def forks():
    start_server([])


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A call of a function of ODD."""
    monkeypatch.chdir(tmp_path)
    overlay = {"odd": Source(str(tmp_path / "odd.py"), ODD)}
    return lambda name, *arguments, limits=LIMITS: Call(f"odd:{name}", arguments, overlay, limits=limits)


@pytest.mark.parametrize(
    ("name", "ending", "line"),
    [
        ("endless", "time", "still running after 2 s: an endless loop?"),
        ("blow_up", "memory", "needs more than the 256 MiB that it may take (odd.py:22, in blow_up)"),
        ("blow_up_numpy", "memory", "needs more than the 256 MiB that it may take (odd.py:28, in blow_up_numpy)"),
        ("raises", "raised", "ZeroDivisionError: division by zero (odd.py:32, in raises)"),
        ("leaves", "raised", "SystemExit: leaving (odd.py:36, in leaves)"),
        ("dies", "died", "its process ended without an answer (exit code 7)"),
        ("crashes", "died", "its process ended without an answer (killed by SIGSEGV)"),
        ("gone", "raised", "AttributeError: module 'odd' has no attribute 'gone'"),
        ("answer", "returned", ""),
    ],
)
def test_each_ending_is_one_line(odd, name, ending, line):
    outcome = run(odd(name, limits=SHORT if ending == "time" else LIMITS))
    assert (outcome.ending, outcome.fault) == (ending, line)
    assert (outcome.value == 42) == (ending == "returned")


def test_an_answer_that_cannot_be_sent_is_told(odd):
    assert "pickle" in run(odd("lambda_")).fault.lower()


def test_what_a_call_started_ends_with_it(odd, tmp_path):
    run(odd("endless_with_child", limits=SHORT))
    child = int((tmp_path / "child.pid").read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_calls_come_back_in_their_order_and_see_nothing_of_each_other(odd):
    outcomes = list(run_all([odd("answer", number) for number in range(5)], at_once=3))
    assert [outcome.value for outcome in outcomes] == list(range(5))


def test_arithmetic_has_one_thread_and_this_process_keeps_its_own(odd):
    before = os.environ.get("OMP_NUM_THREADS")
    assert run(odd("one_thread")).value == "1"
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_no_process_is_left_when_the_asking_one_is_killed(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "ask.py").write_text(
        "from llmm.ladder.workers import *\n"
        "if __name__ == '__main__':\n"
        "    start_server([])\n"
        "    run(Call('odd:endless_with_child', limits=Limits(seconds=60)))\n"
    )
    asking = subprocess.Popen(
        [sys.executable, "ask.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "child.pid").exists() or not (tmp_path / "child.pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(asking.pid).children(recursive=True)
    assert len(family) >= 3
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_an_interrupt_ends_the_calls_in_progress(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "ask.py").write_text(
        "from llmm.ladder.workers import *\n"
        "if __name__ == '__main__':\n"
        "    start_server([])\n"
        "    list(run_all([Call('odd:endless_with_child', limits=Limits(seconds=100))] * 3, at_once=2))\n"
    )
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    asking = subprocess.Popen(
        [sys.executable, "ask.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL,
        # where the tests run in the background, they and what they start ignore SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (tmp_path / "child.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(asking.pid).children(recursive=True)
    asking.send_signal(signal.SIGINT)
    assert asking.wait(20) != 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_an_overlay_answers_for_its_modules_only(monkeypatch):
    overlay = Overlay({"some.odd": Source("/there/odd.py", "x = 1")})
    assert overlay.find_spec("some.odd").origin == "/there/odd.py"
    assert overlay.find_spec("some") is None
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    with pytest.raises(RuntimeError, match="json is loaded already"):
        Overlay({"json": Source("json.py", "")}).install()


def test_a_learners_file_that_is_no_python_is_told(tmp_path):
    with pytest.raises(UserError, match=r"averages.py is not there: `llmm begin`"):
        learner_sources("toys.averages", ["averages"], tmp_path)
    (tmp_path / "averages.py").write_text("def mean(:\n")
    with pytest.raises(UserError, match=r"averages.py:1: invalid syntax"):
        learner_sources("toys.averages", ["averages"], tmp_path)


def test_expectations_say_what_was_given_and_what_was_wanted():
    import numpy as np

    assert expect_number("mean", np.float64(2.0)) == 2.0
    assert expect_shape("gradient", np.zeros(3), (3,)).shape == (3,)
    for check, line in (
        (lambda: expect_shape("gradient", np.zeros((3, 1)), (3,)), "gradient has shape (3, 1), expected (3,)"),
        (lambda: expect_shape("gradient", None, (3,)), "gradient is None, expected an array of shape (3,)"),
        (
            lambda: expect_shape("gradient", [1.0], (1,), np.ndarray),
            "gradient is a list, expected a ndarray of shape (1,)",
        ),
        (lambda: expect_number("loss", np.zeros(2)), "loss is a ndarray of shape (2,), expected a number"),
        (lambda: expect_number("loss", "0.5"), "loss is a str, expected a number"),
        (lambda: expect_type("names", {}, (list, tuple)), "names is a dict, expected a list or a tuple"),
    ):
        with pytest.raises(WrongAnswer) as raised:
            check()
        assert str(raised.value) == line


def test_the_servers_children_are_not_multiprocessings_business_at_exit():
    assert multiprocessing.active_children() == []
