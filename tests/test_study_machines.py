"""A search on a PostgreSQL that several machines share, made of namespaces; skipped where those cannot be made."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from machines import Machine, Network
from postgres import await_server, database

STUDY = """
kind = "search"
head = "softmax"
sampler = "random"
seeds = 1
[search]
temperature = { log = [1e-3, 1.0] }
"""
#: Goes through the gate again and again, or stays inside.
GATE = """
import sys, time
from lab.errors import LabError
from lab.studies.storage import open_storage
try:
    with open_storage(sys.argv[1]) as storage, storage.reached():
        with storage.optuna.engine.connect() as connection:
            print(connection.exec_driver_sql("SHOW tcp_keepalives_idle").scalar(), flush=True)
        while True:
            with storage.gate():
                print("inside", flush=True)
                time.sleep(float(sys.argv[2]))
except LabError as error:
    print(error)
"""
SERVER_ASKS = "options=-c%20tcp_keepalives_idle%3D1%20-c%20tcp_user_timeout%3D2000"
CLIENT_ASKS = "keepalives_idle=1&tcp_user_timeout=2000&connect_timeout=5"
TRIALS = """
import sys, psycopg
print(psycopg.connect(sys.argv[1]).execute("SELECT state, count(*) FROM trials GROUP BY 1").fetchall())
"""


def python(machine: Machine, *words: str) -> subprocess.Popen[str]:
    return machine.start([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_machines_that_lose_their_power_or_their_cable(net: Network, full: Path, tmp_path: Path) -> None:
    server = net.add()
    store = shutil.copytree(full, tmp_path / "toy.zarr")
    (tmp_path / "mine.toml").write_text(STUDY)
    url = f"postgresql+psycopg://postgres@{server.address}/postgres"
    with database("10.77.0.0/24") as (serve, folder, _):
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        where = ["-c", f"listen_addresses={server.address}", "-c", "unix_socket_directories="]
        nowhere = subprocess.DEVNULL
        running = server.start([*as_user, *serve, *where], stdout=nowhere, stderr=nowhere, cwd=folder)
        await_server(folder, running)

        # One dies inside the gate without a word; whoever waits there gets in.
        lost = net.add()
        holder = python(lost, "-c", GATE, f"{url}?{SERVER_ASKS}", "600")
        assert holder.stdout is not None
        assert [holder.stdout.readline(), holder.stdout.readline()] == ["1\n", "inside\n"]
        net.power_off(lost)
        own = ["--store", str(store), "--runs", str(tmp_path / "runs"), "--name", "mine", "--storage", url]
        command = ["-m", "lab.study", str(tmp_path / "mine.toml"), *own, "--trials", "30"]
        both = [python(machine, *command) for machine in (net.add(), net.add())]
        told = [process.communicate(timeout=400)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], told
        last = net.machines[-1]
        assert last.run([sys.executable, "-c", TRIALS, url.replace("+psycopg", "")]) == "[('COMPLETE', 30)]\n"
        reads = (tmp_path / "toy.reads.jsonl").read_text().splitlines()
        assert [json.loads(line)["split"] for line in reads] == ["test"]

        # The server's cable.
        asking = python(last, "-c", GATE, f"{url}?{CLIENT_ASKS}", "0.1")
        assert asking.stdout is not None
        assert [asking.stdout.readline(), asking.stdout.readline()] == ["10\n", "inside\n"]
        net.unplug(server)
        line = asking.communicate(timeout=200)[0].splitlines()[-1]
        assert line.startswith(f"the storage postgresql+psycopg://{server.address}/postgres?")
        assert line.endswith("start it and run the same command")
