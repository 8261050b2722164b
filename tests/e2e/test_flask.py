# SPDX-License-Identifier: Apache-2.0
"""The walkthrough with the real AWS CLI and the real JavaScript SDK: examples/flask, start to end."""
import json
import shutil
import subprocess

from conftest import ACCOUNT, BASE_IMAGE, BUILD_ROLE, NODE, REGION, ROOT, wait_for

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:flask"
HELLO = {"message": "Hello, World!"}


def test_flask_with_the_aws_cli(daemon, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "flask"), "zip", ROOT / "examples/flask")
    daemon.aws("s3", "mb", "s3://walkthrough", check=False)
    daemon.aws("s3", "cp", archive, "s3://walkthrough/flask.zip", check=False)
    created = daemon.aws(
        "lambda-microvms", "create-microvm-image", "--name", "flask", "--base-image-arn", BASE_IMAGE,
        "--build-role-arn", BUILD_ROLE, "--code-artifact", "uri=s3://walkthrough/flask.zip",
        "--resources", "minimumMemoryInMiB=512")
    assert created["state"] == "CREATING" and created["imageVersion"] == "1.0"
    image = daemon.wait_image(ARN, 1200)
    assert image["state"] == "CREATED", daemon.build_reason(ARN)
    vm = daemon.aws("lambda-microvms", "run-microvm", "--image-identifier", ARN, "--idle-policy",
                    "maxIdleDurationSeconds=600,suspendedDurationSeconds=600,autoResumeEnabled=true")
    name = vm["microvmId"]
    wait_for("RUNNING", 30, lambda: daemon.aws("lambda-microvms", "get-microvm",
                                               "--microvm-identifier", name)["state"] == "RUNNING")
    token = daemon.aws("lambda-microvms", "create-microvm-auth-token", "--microvm-identifier", name,
                       "--expiration-in-minutes", "5", "--allowed-ports",
                       "port=5000")["authToken"]["X-aws-proxy-auth"]
    status, body, _ = daemon.request(vm["endpoint"], "/", token, port=5000)
    assert status == 200 and json.loads(body) == HELLO
    assert daemon.request(vm["endpoint"], "/", token, port=5001)[:2] == (403, "Access to port denied")
    assert daemon.request(vm["endpoint"], "/", port=5000)[:2] == (
        403, "Request missing authentication")
    daemon.aws("lambda-microvms", "suspend-microvm", "--microvm-identifier", name)
    daemon.wait_state(name, "SUSPENDED")
    status, body, _ = daemon.request(vm["endpoint"], "/", token, port=5000)
    assert status == 200 and json.loads(body) == HELLO
    daemon.aws("lambda-microvms", "terminate-microvm", "--microvm-identifier", name)
    daemon.wait_state(name, "TERMINATED")


SCRIPT = """
import * as m from "@aws-sdk/client-lambda-microvms";
const c = new m.LambdaMicrovmsClient({});
const arn = process.argv[2];
const vm = await c.send(new m.RunMicrovmCommand({imageIdentifier: arn}));
let state;
for (let i = 0; i < 200 && state !== "RUNNING"; i++) {
  state = (await c.send(new m.GetMicrovmCommand({microvmIdentifier: vm.microvmId}))).state;
  if (state !== "RUNNING") await new Promise(r => setTimeout(r, 50));
}
const t = await c.send(new m.CreateMicrovmAuthTokenCommand({microvmIdentifier: vm.microvmId,
  expirationInMinutes: 5, allowedPorts: [{port: 5000}]}));
const r = await fetch(`https://${vm.endpoint}/`,
  {headers: {...t.authToken, "X-aws-proxy-port": "5000"}});
const body = await r.json();
let refused;
try {
  await c.send(new m.GetMicrovmCommand({microvmIdentifier: "microvm-00000000-0000-3000-8000-000000000000"}));
} catch (e) { refused = e.name; }
const listed = (await c.send(new m.ListMicrovmsCommand({imageIdentifier: arn}))).items.map(i => i.microvmId);
await c.send(new m.SuspendMicrovmCommand({microvmIdentifier: vm.microvmId}));
await c.send(new m.TerminateMicrovmCommand({microvmIdentifier: vm.microvmId}));
await c.send(new m.ListMicrovmImagesCommand({}));
console.log(JSON.stringify({status: r.status, body, refused, listed: listed.includes(vm.microvmId),
  state, id: vm.microvmId}));
"""


def test_flask_with_the_javascript_sdk(daemon):
    (NODE / "flask.mjs").write_text(SCRIPT)
    env = {**daemon.env(), "NODE_EXTRA_CA_CERTS": daemon.info["ca"]}
    done = subprocess.run(["node", "flask.mjs", ARN], cwd=NODE, env=env, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr + daemon.log_tail()
    out = json.loads(done.stdout)
    assert out["status"] == 200 and out["body"] == HELLO and out["state"] == "RUNNING"
    assert out["refused"] == "ResourceNotFoundException" and out["listed"]
    daemon.wait_state(out["id"], "TERMINATED")


def test_flask_is_deleted(daemon):
    daemon.aws("lambda-microvms", "delete-microvm-image", "--image-identifier", ARN)
    wait_for("deleted", 20, lambda: not (daemon.home / "images/flask").exists())
    gone = daemon.aws("lambda-microvms", "get-microvm-image", "--image-identifier", ARN, check=False)
    assert gone.returncode != 0 and "MicroVMImage not found" in gone.stderr
