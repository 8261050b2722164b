# SPDX-License-Identifier: Apache-2.0
"""Life of a microVM through the wire: run, call, isolate, suspend, resume, crash, terminate."""
import concurrent.futures
import json
import os
import signal
import subprocess
import time

import pytest

from conftest import machines_of, wait_for


def test_a_clone_answers_over_https(daemon, tiny):
    vm = daemon.run(tiny)
    token = daemon.token(vm["microvmId"], 8080)
    status, body, headers = daemon.request(vm["endpoint"], "/", token)
    assert status == 200 and body.startswith("count=")
    assert len(headers["x-amzn-requestid"]) == 36
    daemon.client("lambda-microvms").terminate_microvm(microvmIdentifier=vm["microvmId"])
    daemon.wait_state(vm["microvmId"], "TERMINATED")


def test_tokens_open_exactly_what_they_name(daemon, tiny):
    one, two = daemon.run(tiny), daemon.run(tiny)
    token = daemon.token(one["microvmId"], 8080)
    cases = [
        ({}, 403, "Request missing authentication"),
        ({"token": "not.a.token"}, 403, "Request missing authentication"),
        ({"token": token, "port": 5001}, 403, "Access to port denied"),
        ({"token": daemon.token(two["microvmId"], 8080)}, 403, "Token authentication failed"),
        ({"token": daemon.token(one["microvmId"], 8081), "port": 8081}, 502, ""),
        ({"token": token, "port": 99999}, 400, "Invalid x-aws-proxy-port: 99999"),
    ]
    for arguments, status, text in cases:
        got = daemon.request(one["endpoint"], "/", **arguments)
        assert (got[0], got[1]) == (status, text), arguments
        assert got[2].get("x-aws-proxy-error"), arguments
    unknown = "00000000-0000-4000-8000-000000000000" + one["endpoint"][36:]
    assert daemon.request(unknown, "/", token)[:2] == (403, "Token authentication failed")
    for vm in (one, two):
        daemon.cli("rm", vm["microvmId"])


def test_five_clones_differ_and_see_nothing_of_each_other(daemon, tiny):
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        vms = list(pool.map(lambda _: daemon.run(tiny), range(5)))
        tokens = [daemon.token(vm["microvmId"], 8080) for vm in vms]

        def get(i, path):
            status, body, _ = daemon.request(vms[i]["endpoint"], path, tokens[i])
            assert status == 200
            return body.strip()

        for path in ("/uuid", "/machine-id", "/hostname"):
            values = [get(i, path) for i in range(5)]
            assert len(set(values)) == 5, (path, values)
        for i in range(5):
            get(i, f"/write/{i}")
        for i in range(5):
            assert get(i, "/markers") == f"/marker-{i}"
            assert abs(int(get(i, "/time")) - time.time()) <= 2
        list(pool.map(lambda vm: daemon.cli("rm", vm["microvmId"]), vms))


def test_suspend_keeps_the_process_and_a_request_resumes_it(daemon, tiny):
    vm = daemon.run(tiny, idlePolicy={"maxIdleDurationSeconds": 3600,
                                      "suspendedDurationSeconds": 3600, "autoResumeEnabled": True})
    token = daemon.token(vm["microvmId"], 8080)
    before = daemon.request(vm["endpoint"], "/", token)[1]
    lam = daemon.client("lambda-microvms")
    lam.suspend_microvm(microvmIdentifier=vm["microvmId"])
    daemon.wait_state(vm["microvmId"], "SUSPENDED")
    assert not [p for p in machines_of(daemon.home)
                if vm["microvmId"].encode() in open(f"/proc/{p}/cmdline", "rb").read()]
    lam.suspend_microvm(microvmIdentifier=vm["microvmId"])  # a no-op
    with concurrent.futures.ThreadPoolExecutor(4) as pool:  # all first requests are held
        answers = list(pool.map(lambda _: daemon.request(vm["endpoint"], "/", token), range(4)))
    assert [a[0] for a in answers] == [200] * 4
    pid = before.split("pid=")[1]
    assert all(a[1].split("pid=")[1] == pid for a in answers)
    counts = sorted(int(a[1].split()[0].split("=")[1]) for a in answers)
    first = int(before.split()[0].split("=")[1])
    assert counts == [first + 1, first + 2, first + 3, first + 4]
    daemon.cli("rm", vm["microvmId"])


def test_without_auto_resume_a_request_gets_502(daemon, tiny):
    vm = daemon.run(tiny, idlePolicy={"maxIdleDurationSeconds": 3600,
                                      "suspendedDurationSeconds": 3600,
                                      "autoResumeEnabled": False})
    token = daemon.token(vm["microvmId"], 8080)
    lam = daemon.client("lambda-microvms")
    lam.suspend_microvm(microvmIdentifier=vm["microvmId"])
    daemon.wait_state(vm["microvmId"], "SUSPENDED")
    assert daemon.request(vm["endpoint"], "/", token)[:2] == (502, "")
    assert lam.get_microvm(microvmIdentifier=vm["microvmId"])["state"] == "SUSPENDED"
    lam.resume_microvm(microvmIdentifier=vm["microvmId"])
    daemon.wait_state(vm["microvmId"], "RUNNING")
    assert daemon.request(vm["endpoint"], "/", token)[0] == 200
    lam.terminate_microvm(microvmIdentifier=vm["microvmId"])
    daemon.wait_state(vm["microvmId"], "TERMINATED")
    with pytest.raises(lam.exceptions.ValidationException, match="has been terminated"):
        lam.resume_microvm(microvmIdentifier=vm["microvmId"])
    assert daemon.request(vm["endpoint"], "/", token)[:2] == (502, "")


def test_container_exit_ends_the_microvm(daemon, tiny):
    vm = daemon.run(tiny)
    daemon.request(vm["endpoint"], "/exit/7", daemon.token(vm["microvmId"], 8080))
    ended = daemon.wait_state(vm["microvmId"], "TERMINATED", 30)
    assert ended["stateReason"] == "Container Stopped with Exit Code: 7"


def test_a_killed_monitor_is_noticed(daemon, tiny):
    vm = daemon.run(tiny)
    victims = [p for p in machines_of(daemon.home)
               if vm["microvmId"].encode() in open(f"/proc/{p}/cmdline", "rb").read()]
    assert victims
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    ended = daemon.wait_state(vm["microvmId"], "TERMINATED", 15)
    assert "ended unexpectedly" in ended["stateReason"]
    wait_for("directory removed", 10,
             lambda: not (daemon.home / "vms" / vm["microvmId"]).exists())


def test_exec_logs_and_files_of_a_clone(daemon, tiny):
    vm = daemon.run(tiny)
    done = daemon.cli("exec", vm["microvmId"], "--", "sh", "-c", "echo out; echo err >&2; exit 5",
                      check=False)
    assert (done.returncode, done.stdout, done.stderr) == (5, "out\n", "err\n")
    daemon.request(vm["endpoint"], "/logged", daemon.token(vm["microvmId"], 8080))
    wait_for("log line", 10, lambda: "GET /logged" in daemon.cli("logs", vm["microvmId"]).stdout)
    daemon.cli("rm", vm["microvmId"])


def test_large_bodies_stream_both_ways(daemon, tiny):
    vm = daemon.run(tiny)
    token = daemon.token(vm["microvmId"], 8080)
    body = os.urandom(3 << 20).hex()
    status, answer, _ = daemon.request(vm["endpoint"], "/", token, method="POST", body=body)
    assert status == 200 and answer == body
    curl = ["curl", "-sS", "--fail", "--http2", "--cacert", daemon.info["ca"], "--resolve",
            f"{vm['endpoint']}:{daemon.info['endpoint']['address']}", "-H",
            f"X-aws-proxy-auth: {token}", "-w", "%{http_version}", f"https://{vm['endpoint']}/uuid"]
    out = subprocess.run(curl, capture_output=True, text=True, check=True).stdout
    assert out.endswith("2") and len(out.split("\n")[0]) == 36
    daemon.cli("rm", vm["microvmId"])


def test_sigkilled_daemon_comes_back_with_its_suspended_vm(daemon, tiny):
    keep, lose = daemon.run(tiny), daemon.run(tiny)
    token = daemon.token(keep["microvmId"], 8080)
    before = daemon.request(keep["endpoint"], "/write/kept", token)
    assert before[0] == 200
    lam = daemon.client("lambda-microvms")
    lam.suspend_microvm(microvmIdentifier=keep["microvmId"])
    daemon.wait_state(keep["microvmId"], "SUSPENDED")
    daemon.kill()
    wait_for("orphans gone", 10, lambda: machines_of(daemon.home) == [])
    daemon.start()
    assert lam.get_microvm(microvmIdentifier=keep["microvmId"])["state"] == "SUSPENDED"
    gone = lam.get_microvm(microvmIdentifier=lose["microvmId"])
    assert gone["state"] == "TERMINATED" and "stopped" in gone["stateReason"]
    assert not (daemon.home / "vms" / lose["microvmId"]).exists()
    status, body, _ = daemon.request(keep["endpoint"], "/markers", token)
    assert (status, body) == (200, "/marker-kept\n")
    daemon.cli("rm", keep["microvmId"])


def test_orderly_stop_suspends_what_runs(daemon, tiny):
    vm = daemon.run(tiny)
    token = daemon.token(vm["microvmId"], 8080)
    pid = daemon.request(vm["endpoint"], "/", token)[1].split("pid=")[1]
    daemon.stop()
    assert machines_of(daemon.home) == []
    daemon.start()
    daemon.wait_state(vm["microvmId"], "SUSPENDED")
    assert daemon.request(vm["endpoint"], "/", token)[1].split("pid=")[1] == pid
    daemon.cli("rm", vm["microvmId"])


def test_idle_policy_suspends(daemon, tiny):
    vm = daemon.run(tiny, idlePolicy={"maxIdleDurationSeconds": 60,
                                      "suspendedDurationSeconds": 600, "autoResumeEnabled": True})
    token = daemon.token(vm["microvmId"], 8080)
    assert daemon.request(vm["endpoint"], "/", token)[0] == 200
    start = time.monotonic()
    daemon.wait_state(vm["microvmId"], "SUSPENDED", 90)
    assert time.monotonic() - start > 55
    assert daemon.request(vm["endpoint"], "/", token)[0] == 200
    daemon.cli("rm", vm["microvmId"])


def test_list_shows_what_ran(daemon, tiny):
    items = json.loads(daemon.cli("ps", "-a", "--json").stdout)
    assert items is not None
    states = {i["state"] for i in daemon.client("lambda-microvms").list_microvms()["items"]}
    assert states <= {"TERMINATED", "RUNNING", "SUSPENDED", "TERMINATING"}
