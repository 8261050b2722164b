# SPDX-License-Identifier: Apache-2.0
"""The microVM side of the API: run, replay, lists, tokens, and the extensions."""
import base64
import concurrent.futures
import json
import os
import pathlib
import re
import socket

import pytest

from conftest import REGION
from test_api_images import raw, refusal

CONNECTOR = f"arn:aws:lambda:{REGION}:aws:network-connector:aws-network-connector:"


@pytest.fixture(scope="module")
def vm(daemon, tiny):
    machine = daemon.run(tiny)
    yield machine
    daemon.client("lambda-microvms").terminate_microvm(microvmIdentifier=machine["microvmId"])


def execute(daemon, vm, *args, status=200, **more):
    body = json.dumps({"args": args, **more}).encode()
    got, _, answer = raw(daemon, "POST", f"/tinderbox/v1/microvms/{vm['microvmId']}/exec", body)
    assert got == status, answer
    answer = json.loads(answer)
    for stream in ("stdout", "stderr"):
        if stream in answer:
            answer[stream] = base64.b64decode(answer[stream])
    return answer


def test_body_of_a_microvm(daemon, tiny, vm):
    lam = daemon.client("lambda-microvms")
    got = lam.get_microvm(microvmIdentifier=vm["microvmId"])
    assert got["state"] == "RUNNING" and got["imageArn"] == tiny and got["imageVersion"] == "1.0"
    assert got["maximumDurationInSeconds"] == 28800
    assert got["ingressNetworkConnectors"] == [CONNECTOR + "HTTP_INGRESS"]
    assert got["egressNetworkConnectors"] == [CONNECTOR + "INTERNET_EGRESS"]
    assert got["endpoint"] == vm["endpoint"]
    listed = [i for i in lam.list_microvms(imageIdentifier=tiny)["items"]
              if i["microvmId"] == vm["microvmId"]]
    assert len(listed) == 1 and set(listed[0]) == {"microvmId", "state", "imageArn", "imageVersion",
                                                   "startedAt"}
    assert refusal(lam.run_microvm, imageIdentifier=tiny, imageVersion="7.0") == (
        "ResourceNotFoundException", 404,
        f"No active version found for MicroVM image {tiny} and version 7.0")
    assert refusal(lam.run_microvm, imageIdentifier=tiny, runHookPayload="x") == (
        "ValidationException", 400,
        "The run hook must be enabled in the MicroVM image to pass the run hook payload")


def test_simultaneous_runs_with_one_token_are_one_machine(daemon, tiny):
    lam = daemon.client("lambda-microvms")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: lam.run_microvm(
            imageIdentifier=tiny, clientToken="same"), range(6)))
    ids = {a["microvmId"] for a in answers}
    assert len(ids) == 1
    assert refusal(lam.run_microvm, imageIdentifier=tiny, clientToken="same",
                   maximumDurationInSeconds=60)[:2] == ("ConflictException", 409)
    one = ids.pop()
    lam.terminate_microvm(microvmIdentifier=one)
    gone = daemon.wait_state(one, "TERMINATED")
    assert gone["stateReason"] == "Success." and gone["terminatedAt"]
    assert lam.run_microvm(imageIdentifier=tiny, clientToken="same")["microvmId"] == one
    lam.terminate_microvm(microvmIdentifier=one)  # again is success
    for call in (lam.suspend_microvm, lam.resume_microvm):
        assert refusal(call, microvmIdentifier=one) == (
            "ValidationException", 400,
            f"The MicroVM {one} has been terminated and its state cannot be changed.")


def test_token_refusals(daemon, vm):
    lam = daemon.client("lambda-microvms")
    ports = [{"port": 80}]
    assert refusal(lam.create_microvm_auth_token, microvmIdentifier=vm["microvmId"],
                   expirationInMinutes=61, allowedPorts=ports) == (
        "ValidationException", 400, "ExpirationMinutes 61 exceeded max allowed of 60.")
    assert refusal(lam.create_microvm_shell_auth_token, microvmIdentifier=vm["microvmId"],
                   expirationInMinutes=5) == (
        "ValidationException", 400,
        "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.")
    token = lam.create_microvm_auth_token(microvmIdentifier=vm["microvmId"],
                                          expirationInMinutes=1, allowedPorts=[{"allPorts": {}}])
    assert token["authToken"]["X-aws-proxy-auth"].count(".") == 4


def test_exec(daemon, vm):
    done = execute(daemon, vm, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done["exitCode"], done["signal"], done["truncated"]) == (7, 0, False)
    assert (done["stdout"], done["stderr"]) == (b"out\n", b"err\n")
    done = execute(daemon, vm, "sh", "-c", "pwd; echo $A; id -un", cwd="/tmp", env={"A": "b c"})
    assert done["stdout"] == b"/tmp\nb c\nroot\n"
    assert execute(daemon, vm, "sh", "-c", "kill -9 $$")["signal"] == 9
    missing = execute(daemon, vm, "/no/such/program", status=400)
    assert missing["message"]
    late = execute(daemon, vm, "sleep", "60", timeoutSeconds=1, status=400)
    assert late["message"] == "The command did not end within timeoutSeconds"


def test_exec_with_much_input_and_output(daemon, vm):
    data = os.urandom(3 << 20)
    done = execute(daemon, vm, "cat", stdin=base64.b64encode(data).decode())
    assert done["stdout"] == data and done["exitCode"] == 0
    # a command that writes much and reads nothing meets a full input
    done = execute(daemon, vm, "sh", "-c", "head -c 6000000 /dev/zero; exit 3",
                   stdin=base64.b64encode(data).decode())
    assert done["exitCode"] == 3 and done["truncated"] and len(done["stdout"]) == 4 << 20


def test_logs_status_stats(daemon, tiny, vm):
    kind = f"/tinderbox/v1/logs/microvm/{vm['microvmId']}"
    token = daemon.token(vm["microvmId"], 8080)
    assert daemon.request(vm["endpoint"], "/marked-in-log", token)[0] == 200
    text = b""
    for _ in range(100):
        status, headers, more = raw(daemon, "GET", f"{kind}?offset={len(text)}")
        assert status == 200 and headers["x-tinderbox-ended"] == "false"
        text += more
        assert int(headers["x-tinderbox-next-offset"]) == len(text)
        if b"GET /marked-in-log" in text:
            break
    assert b"GET /marked-in-log" in text
    lam = daemon.client("lambda-microvms")
    build = lam.list_microvm_image_builds(imageIdentifier=tiny, imageVersion="1.0")["items"][0]
    status, headers, log = raw(daemon, "GET", f"/tinderbox/v1/logs/build/{build['buildId']}")
    assert status == 200 and headers["x-tinderbox-ended"] == "true" and b"COPY" in log
    assert raw(daemon, "GET", "/tinderbox/v1/logs/build/none")[0] == 404
    status = json.loads(raw(daemon, "GET", "/tinderbox/v1/status")[2])
    assert status["version"] and status["microvms"]["RUNNING"] >= 1
    stats = json.loads(raw(daemon, "GET", f"/tinderbox/v1/microvms/{vm['microvmId']}/stats")[2])
    assert stats and all(isinstance(v, (int, float)) for v in stats.values())


def test_bodies_of_strangers_are_not_kept_in_memory(daemon):
    def rss_kib():
        status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    host, port = daemon.info["api"].removeprefix("http://").split(":")
    size = 8 * 1024 * 1024 - 1
    head = (f"POST /x HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {size + 1}\r\n\r\n").encode()
    before = rss_kib()
    socks = [socket.create_connection((host, int(port)), timeout=30) for _ in range(8)]
    try:
        for sock in socks:
            sock.sendall(head + b"x" * size)
        assert rss_kib() - before < 24 * 1024
    finally:
        for sock in socks:
            sock.close()
