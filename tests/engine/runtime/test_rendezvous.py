"""Processes rendezvous, attempt after attempt, in a store that forgets nothing."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import HashStore, TCPStore

import train
from configs import ConfigError, UserError
from engine.runtime.rendezvous import TorchrunJob, open_store, read_environment, rendezvous
from tests import runs
from tests.runs import MakeArguments

data, arguments, one_thread, undrawn = runs.data, runs.arguments, runs.one_thread, runs.undrawn  # fixtures

LIMIT = timedelta(seconds=20)
GIVEN = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def attempt(store: HashStore, ranks: list[int]) -> list[str]:
    """Let `ranks` rendezvous, coming in that order; return what each then finds where the first of them put it."""
    turns = [threading.Event() for _ in ranks]
    turns[0].set()

    def join(position: int) -> str:
        turns[position].wait()
        if position + 1 < len(ranks):
            threading.Timer(0.1, turns[position + 1].set).start()
        shared = rendezvous(store, ranks[position], len(ranks), LIMIT)
        if position == 0:
            shared.set("secret", str(ranks))
        return shared.get("secret").decode()

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(join, range(len(ranks))))


def test_each_attempt_has_keys_of_its_own_whoever_comes_first() -> None:
    store = HashStore()
    assert attempt(store, [0, 1, 2]) == ["[0, 1, 2]"] * 3
    assert attempt(store, [2, 1, 0]) == ["[2, 1, 0]"] * 3  # 2 and 1 find the attempt that is over, and wait
    assert attempt(store, [1, 0]) == ["[1, 0]"] * 2  # fewer machines


def test_who_waits_in_vain_says_so() -> None:
    store = HashStore()
    attempt(store, [0, 1])
    with pytest.raises(UserError, match=r"the 2 processes of this run did not meet within 0\.2 s"):
        rendezvous(store, 1, 2, timedelta(seconds=0.2))


def test_a_job_is_restarted_once_an_attempt_has_begun() -> None:
    store = HashStore()
    assert not TorchrunJob.current(None).restarted
    first = TorchrunJob.current(store)
    assert not first.restarted
    assert not TorchrunJob.current(store).restarted  # it was refused before it began
    first.mark_started()
    assert TorchrunJob.current(store).restarted


def test_a_restarted_job_resumes_what_it_began_itself_and_nothing_else(
    arguments: MakeArguments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    light = arguments("model.fusion=rgb", "train.epochs=1")
    (tmp_path / "runs" / "xnorm").mkdir(parents=True)
    (tmp_path / "runs" / "xnorm" / "config.yaml").write_text("name: xnorm\n")
    agent = TCPStore("localhost", 0, is_master=True)
    environment = {"TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": "0", "WORLD_SIZE": "1"}
    for name, value in (environment | {"MASTER_ADDR": "localhost", "MASTER_PORT": str(agent.port)}).items():
        monkeypatch.setenv(name, value)
    for _ in range(2):  # a job of that name, and its restart, would go on with a run of somebody else
        assert train.main(light) == 2
        assert "exists already; go on with it by --resume" in capsys.readouterr().err
    assert train.main([*light, "name=new"]) == 0
    assert train.main([*light, "name=new"]) == 0
    assert "runs/new: finished already" in capsys.readouterr().out


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"], ids=["silent", "ssh"])
def test_a_port_on_which_something_else_listens_ends_the_run_in_time(
    greeting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: listener.accept()[0].sendall(greeting), daemon=True).start()
        port = str(listener.getsockname()[1])
        for rank, reason in (("1", r"no answer within 0\.5 s"), ("0", "address already in use")):
            for name, value in {**GIVEN, "RANK": rank, "MASTER_PORT": port}.items():
                monkeypatch.setenv(name, value)
            message = rf"MASTER_PORT={port}: the processes of this run cannot meet there \(.*{reason}.*something else"
            with pytest.raises(UserError, match=message):
                open_store(timedelta(seconds=0.5))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "1"}, r"the environment has RANK and lacks WORLD_SIZE, which torchrun sets together"),
        ({"WORLD_SIZE": "2"}, r"has WORLD_SIZE and lacks RANK, MASTER_ADDR, MASTER_PORT, which"),
        ({"LOCAL_RANK": "1"}, r"has LOCAL_RANK and lacks RANK, WORLD_SIZE, which"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}, r"lacks MASTER_PORT, which"),
        ({**GIVEN, "RANK": "2"}, r"has RANK=2, WORLD_SIZE=2, .*; allowed: .* RANK below WORLD_SIZE"),
        ({**GIVEN, "RANK": "one"}, r"has RANK=one; allowed"),
        ({**GIVEN, "MASTER_PORT": "-1"}, r"has MASTER_PORT=-1; allowed"),
    ],
    ids=str,
)
def test_half_of_torchruns_variables_are_one_message(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*GIVEN, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert read_environment() == (0, 1)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        read_environment()


def test_an_address_alone_is_no_run_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*GIVEN, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "node1")  # as some clusters set it for everybody
    assert read_environment() == (0, 1)
