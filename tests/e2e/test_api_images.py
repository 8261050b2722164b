# SPDX-License-Identifier: Apache-2.0
"""The image side of the API as clients see it: bodies, refusals, pages, tags, replay."""
import json
import subprocess
import urllib.error
import urllib.request

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from conftest import ACCOUNT, BASE_IMAGE, BUILD_ROLE, NODE, REGION


def arn(name):
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:{name}"


def members(name, **more):
    return {"name": name, "baseImageArn": BASE_IMAGE, "buildRoleArn": BUILD_ROLE,
            "codeArtifact": {"uri": "s3://no-such-bucket/code.zip"}, **more}


def refusal(call, **arguments):
    """(exception, status, message) of a refused call."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    r = caught.value.response
    return r["Error"]["Code"], r["ResponseMetadata"]["HTTPStatusCode"], r["Error"]["Message"]


def failed_image(daemon, name, **more):
    """An image whose build failed: it needs no machine and has every row an image has."""
    daemon.client("lambda-microvms").create_microvm_image(**members(name, **more))
    assert daemon.wait_image(arn(name))["state"] == "CREATE_FAILED"


def raw(daemon, method, path, body=b"", region=REGION, service="lambda"):
    """A request signed by botocore but otherwise as given: (status, headers, body)."""
    env = daemon.env()
    request = AWSRequest(method, daemon.info["api"] + path, data=body,
                         headers={"content-type": "application/json"})
    SigV4Auth(Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]), service,
              region).add_auth(request)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(urllib.request.Request(request.url, data=body or None, method=method,
                                                    headers=dict(request.headers)))
    except urllib.error.HTTPError as e:
        answer = e
    return answer.status, answer.headers, answer.read()


def test_a_missing_artifact_fails_the_build_and_says_so(daemon):
    lam = daemon.client("lambda-microvms")
    created = lam.create_microvm_image(**members("no-artifact"))
    assert created["state"] == "CREATING" and created["imageVersion"] == "1.0"
    assert created["resources"] == [{"minimumMemoryInMiB": 2048}]
    assert created["egressNetworkConnectors"][0].endswith(":INTERNET_EGRESS")
    assert daemon.wait_image(arn("no-artifact"))["state"] == "CREATE_FAILED"
    image = lam.get_microvm_image(imageIdentifier=arn("no-artifact"))
    assert image["latestFailedImageVersion"] == "1.0"
    assert "latestActiveImageVersion" not in image
    version = lam.get_microvm_image_version(imageIdentifier=arn("no-artifact"), imageVersion="1")
    assert (version["state"], version["status"]) == ("FAILED", "INACTIVE")
    assert "S3_NO_SUCH_BUCKET" in daemon.build_reason(arn("no-artifact"))
    daemon.client("s3").create_bucket(Bucket="e2e")
    lam.update_microvm_image(imageIdentifier=arn("no-artifact"), baseImageArn=BASE_IMAGE,
                             buildRoleArn=BUILD_ROLE, codeArtifact={"uri": "s3://e2e/missing"})
    assert daemon.wait_image(arn("no-artifact"))["state"] == "UPDATE_FAILED"
    assert "S3_NO_SUCH_KEY" in daemon.build_reason(arn("no-artifact"), "2.0")
    assert refusal(lam.run_microvm, imageIdentifier=arn("no-artifact")) == (
        "ResourceNotFoundException", 404,
        f"No active version found for MicroVM image {arn('no-artifact')}")
    assert lam.delete_microvm_image(imageIdentifier=arn("no-artifact"))["state"] == "DELETING"


def test_refusals_in_the_services_words(daemon):
    lam = daemon.client("lambda-microvms")
    name = "refused"
    create = lam.create_microvm_image
    assert refusal(create, **members("a b")) == (
        "ValidationException", 400,
        "1 validation error detected: Value 'a b' at 'name' failed to satisfy constraint: Member "
        "must satisfy regular expression pattern: [a-zA-Z0-9-_]+")
    cases = [
        ({"codeArtifact": {"uri": "public.ecr.aws/x/y"}},
         "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>"),
        ({"resources": [{"minimumMemoryInMiB": 3000}]},
         f"The requested memory size of 3000 MiB is not supported by base MicroVM image "
         f"{BASE_IMAGE}. Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]."),
        ({"baseImageVersion": "999"},
         f"No managed MicroVM Image with arn {BASE_IMAGE} and version 999 is available"),
        ({"environmentVariables": {"AWS_REGION": "x"}},
         "Environment variable key 'AWS_REGION' is reserved"),
        ({"egressNetworkConnectors": ["X"]}, "Malformed network connector ARN: X"),
    ]
    for more, text in cases:
        assert refusal(create, **members(name, **more)) == ("ValidationException", 400, text)
    assert refusal(lam.get_microvm_image, imageIdentifier=name) == (
        "ValidationException", 400, f"Invalid ARN format: {name}")
    assert refusal(lam.get_microvm_image, imageIdentifier=arn(name)) == (
        "ResourceNotFoundException", 404,
        f"MicroVMImage not found for MicroVMImageID: {arn(name)}")
    assert refusal(lam.run_microvm, imageIdentifier=name) == (
        "ValidationException", 400, "Malformed ARN - doesn't start with 'arn:'")
    vm = "microvm-00000000-0000-4000-8000-000000000000"
    assert refusal(lam.get_microvm, microvmIdentifier=vm) == (
        "ResourceNotFoundException", 404, f"MicroVM not found: {vm}")


def test_names_are_unique_and_tokens_replay(daemon):
    lam = daemon.client("lambda-microvms")
    first = lam.create_microvm_image(**members("once", clientToken="token-1"))
    again = lam.create_microvm_image(**members("once", clientToken="token-1"))
    assert again["createdAt"] == first["createdAt"] and again["imageVersion"] == "1.0"
    assert refusal(lam.create_microvm_image, **members("twice", clientToken="token-1"))[:2] == (
        "ConflictException", 409)
    assert refusal(lam.create_microvm_image, **members("once", clientToken="token-2")) == (
        "ValidationException", 400,
        "A MicroVM image with the name 'once' already exists in this account")
    daemon.wait_image(arn("once"))
    lam.delete_microvm_image(imageIdentifier=arn("once"))


def test_lists_in_pages(daemon):
    lam = daemon.client("lambda-microvms")
    for i in range(5):
        failed_image(daemon, f"paged-{i}")

    def names(**arguments):
        pages = list(lam.get_paginator("list_microvm_images").paginate(
            PaginationConfig={"PageSize": 2}, **arguments))
        return [i["name"] for p in pages for i in p["items"]], len(pages)

    found, pages = names(nameFilter="paged-")
    assert found == [f"paged-{i}" for i in (4, 3, 2, 1, 0)] and pages == 3
    assert names(nameFilter="paged-3") == (["paged-3"], 1)
    token = lam.list_microvm_images(maxResults=1)["nextToken"]
    assert refusal(lam.list_microvms, nextToken=token)[:2] == ("ValidationException", 400)
    assert refusal(lam.list_microvm_images, maxResults=51)[0] == "ValidationException"
    for i in range(5):
        lam.delete_microvm_image(imageIdentifier=arn(f"paged-{i}"))


def test_tags_by_cli_and_javascript(daemon):
    failed_image(daemon, "tagged", tags={"team": "a b", "drop": "me"})
    daemon.aws("lambda-microvms", "tag-resource", "--resource", arn("tagged"), "--tags", "x=y=z")
    daemon.aws("lambda-microvms", "untag-resource", "--resource", arn("tagged"), "--tag-keys",
               "drop", "never-there")
    script = """
import { LambdaMicrovmsClient, ListTagsCommand, GetMicrovmImageCommand, CreateMicrovmImageCommand }
  from "@aws-sdk/client-lambda-microvms";
const c = new LambdaMicrovmsClient({ maxAttempts: 1 });
const arn = process.argv[2];
const { Tags } = await c.send(new ListTagsCommand({ Resource: arn }));
const image = await c.send(new GetMicrovmImageCommand({ imageIdentifier: arn }));
const e = await c.send(new CreateMicrovmImageCommand({ name: "n" })).catch((e) => e);
console.log(JSON.stringify({ Tags, tags: image.tags, date: image.createdAt instanceof Date,
                             name: e.name, message: e.message, id: !!e.$metadata.requestId }));
"""
    (NODE / "tags.mjs").write_text(script)
    done = subprocess.run(["node", "--no-warnings", "tags.mjs", arn("tagged")], cwd=NODE,
                          env=daemon.env(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["Tags"] == seen["tags"] == {"team": "a b", "x": "y=z"}
    assert seen["date"] and seen["id"] and seen["name"] == "ValidationException"
    assert seen["message"].startswith("3 validation errors detected: Value null at 'baseImageArn'")
    vm = f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm:microvm-1"
    assert raw(daemon, "GET", f"/2017-03-31/tags/{vm}")[0] == 400
    daemon.client("lambda-microvms").delete_microvm_image(imageIdentifier=arn("tagged"))


def test_managed_images(daemon):
    lam = daemon.client("lambda-microvms")
    items = lam.list_managed_microvm_images()["items"]
    assert [i["imageArn"] for i in items] == [f"arn:aws:lambda:{REGION}:aws:microvm-image:debian-12"]
    for identifier in (items[0]["imageArn"], BASE_IMAGE):
        versions = lam.list_managed_microvm_image_versions(imageIdentifier=identifier)["items"]
        assert [(v["imageVersion"], v["status"]) for v in versions] == [("1", "AVAILABLE")]


def test_the_wire_itself(daemon):
    status, headers, body = raw(daemon, "GET", "/2025-09-09/microvm-images/nothing")
    assert status == 400 and headers["x-amzn-errortype"] == "ValidationException"
    assert len(headers["x-amzn-requestid"]) == 36
    assert body == b'{"message":"Invalid ARN format: nothing"}'
    assert raw(daemon, "GET", "/2025-09-09/nothing")[0] == 404
    assert raw(daemon, "POST", "/2025-09-09/microvms", b"{")[1]["x-amzn-errortype"] == \
        "SerializationException"
    status, headers, _ = raw(daemon, "GET", "/2025-09-09/microvms", region="nowhere")
    assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    status, headers, _ = raw(daemon, "GET", "/2025-09-09/microvms", service="s3")
    assert status == 403
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(daemon.info["api"] + "/tinderbox/v1/status")
    assert caught.value.code == 403
    assert caught.value.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    encoded = arn("none").replace(":", "%3A")
    for identifier in (arn("none"), encoded):
        status, _, body = raw(daemon, "GET", f"/2025-09-09/microvm-images/{identifier}")
        assert status == 404 and arn("none").encode() in body
    big = b'{"name":"' + b"x" * (2 << 20) + b'"}'
    assert raw(daemon, "POST", "/2025-09-09/microvm-images", big)[0] == 400
