#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What things cost, as tables: build phases, snapshot, run to first byte, suspend, resume, memory per
clone, endpoint latency and throughput. Nothing passes or fails on time.

Needs TINDERBOX_BUILD and TINDERBOX_GUEST_DIR; --home keeps an existing home (and its step cache)."""
import argparse
import http.client
import pathlib
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from conftest import BUILD, ROOT, Daemon  # noqa: E402

ROWS = []


def row(name, values, unit="ms"):
    values = sorted(values)
    median = statistics.median(values)
    ROWS.append((name, len(values), median, values[0], values[-1], unit))
    print(f"{name:<52} {len(values):>4} {median:>10.1f} {values[0]:>10.1f} {values[-1]:>10.1f} {unit}",
          flush=True)


class Clock:
    def __enter__(self):
        self.start = time.monotonic()
        return self

    def __exit__(self, *_):
        self.ms = (time.monotonic() - self.start) * 1000


def connect(d, endpoint):
    host, _, port = endpoint.partition(":")
    conn = http.client.HTTPSConnection(
        host, int(port), timeout=60, context=ssl.create_default_context(cafile=d.info["ca"]))
    address = (d.info["endpoint"]["address"], int(port))
    conn._create_connection = lambda _a, *a, **k: socket.create_connection(address, *a, **k)
    return conn


def get(conn, token, port=5000):
    conn.request("GET", "/", headers={"X-aws-proxy-auth": token, "X-aws-proxy-port": str(port)})
    answer = conn.getresponse()
    body = answer.read()
    assert answer.status == 200, (answer.status, body)
    return body


def api(d, method, **members):
    """The CLI's token and run verbs cost a process; the signed call itself is what is measured."""
    import boto3
    from botocore.config import Config
    if not hasattr(d, "lam"):
        env = d.env()
        d.lam = boto3.client("lambda-microvms", endpoint_url=d.info["api"], region_name="us-east-1",
                             aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
                             aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
                             config=Config(retries={"max_attempts": 1}))
    return getattr(d.lam, method)(**members)


def token_for(d, vm, port=5000):
    return api(d, "create_microvm_auth_token", microvmIdentifier=vm["microvmId"],
               expirationInMinutes=10,
               allowedPorts=[{"port": port}])["authToken"]["X-aws-proxy-auth"]


def state(d, vm):
    return api(d, "get_microvm", microvmIdentifier=vm["microvmId"])["state"]


def until(d, vm, wanted):
    while state(d, vm) != wanted:
        time.sleep(0.005)


def build_phases(d):
    for label in ("first build", "same build again"):
        with Clock() as c:
            d.cli("build", ROOT / "examples/flask", "--name", "flask", "--memory", "512")
        row(f"{label}: examples/flask, whole", [c.ms])
        log = d.cli("logs", "flask").stdout
        for name, ms in re.findall(r"== phase (\S+) (\d+) ms", log):
            row(f"{label}: {name}", [float(ms)])


def lifecycle(d, image, rounds):
    first, running, suspend, resume, warm, own, share = [], [], [], [], [], [], []
    for _ in range(rounds):
        start = time.monotonic()
        vm = api(d, "run_microvm", imageIdentifier=image,
                 idlePolicy={"maxIdleDurationSeconds": 3600, "suspendedDurationSeconds": 3600,
                             "autoResumeEnabled": True})
        token = token_for(d, vm)
        conn = connect(d, vm["endpoint"])
        get(conn, token)  # held until the clone runs
        first.append((time.monotonic() - start) * 1000)
        for _ in range(20):
            with Clock() as c:
                get(conn, token)
            warm.append(c.ms)
        conn.close()
        with Clock() as c:
            api(d, "suspend_microvm", microvmIdentifier=vm["microvmId"])
            until(d, vm, "SUSPENDED")
        suspend.append(c.ms)
        with Clock() as c:
            conn = connect(d, vm["endpoint"])
            get(conn, token)
            conn.close()
        resume.append(c.ms)
        api(d, "terminate_microvm", microvmIdentifier=vm["microvmId"])
        until(d, vm, "TERMINATED")
        start = time.monotonic()
        vm = api(d, "run_microvm", imageIdentifier=image)
        until(d, vm, "RUNNING")
        running.append((time.monotonic() - start) * 1000)
        own.append(memory_mib(d, vm, "Private_Dirty"))
        share.append(memory_mib(d, vm))
        api(d, "terminate_microvm", microvmIdentifier=vm["microvmId"])
        until(d, vm, "TERMINATED")
    row("RunMicrovm -> RUNNING", running)
    row("RunMicrovm -> first byte over HTTPS", first)
    row("SuspendMicrovm -> SUSPENDED", suspend)
    row("request to a suspended VM -> answer", resume)
    row("request on a warm connection", warm)
    row("idle clone: pages of its own, all its processes", own, "MiB")
    row("idle clone: PSS, all its processes", share, "MiB")


def processes():
    """pid -> (parent, command line)."""
    table = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                table[int(entry.name)] = (int(stat[1]), (entry / "cmdline").read_bytes())
            except OSError:
                pass
    return table


def memory_mib(d, vm, field="Pss"):
    """A line of smaps_rollup, summed over the clone's sandbox and everything in it. Only the sandbox's
    own command line names the VM."""
    table = processes()
    mine = {pid for pid, (_, line) in table.items() if vm["microvmId"].encode() in line}
    while True:
        more = {pid for pid, (parent, _) in table.items() if parent in mine} - mine
        if not more:
            break
        mine |= more
    total = 0
    for pid in mine:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(rf"^{field}:\s+(\d+)", text, re.M).group(1))
        except OSError:
            continue
    return total / 1024


def ten_at_once(d, image):
    import concurrent.futures

    def one(_):
        start = time.monotonic()
        vm = api(d, "run_microvm", imageIdentifier=image)
        conn = connect(d, vm["endpoint"])
        get(conn, token_for(d, vm))
        conn.close()
        return (time.monotonic() - start) * 1000, vm

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        done = list(pool.map(one, range(10)))
    row("ten at once: each RunMicrovm -> first byte", [ms for ms, _ in done])
    row("ten at once: PSS each", [memory_mib(d, vm) for _, vm in done], "MiB")
    for _, vm in done:
        api(d, "terminate_microvm", microvmIdentifier=vm["microvmId"])


def engine_level(disk):
    """Programs of their own, through engine.h alone, when no daemon runs beside them."""
    program, helpers = BUILD / "tests/perf/perf_engine", BUILD / "src/net"
    print(flush=True)
    subprocess.run([program, helpers, "serve", disk, "/app", "gunicorn", "--bind", "0.0.0.0:5000",
                    "--workers", "1", "app:app"], check=True)
    print("\nboots with every processor busy", flush=True)
    subprocess.run([program, helpers, "boots", "50"], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        d = Daemon(args.home or temporary).start()
        try:
            print(f"{'what':<52} {'n':>4} {'median':>10} {'min':>10} {'max':>10} unit")
            build_phases(d)
            image = "arn:aws:lambda:us-east-1:000000000000:microvm-image:flask"
            lifecycle(d, image, args.rounds)
            ten_at_once(d, image)
        finally:
            d.stop()
        engine_level(max((d.home / "images/flask").glob("*/disk.raw")))


if __name__ == "__main__":
    main()
