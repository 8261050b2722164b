# SPDX-License-Identifier: Apache-2.0
"""The S3 listener with the clients people have: AWS CLI, boto3, the JavaScript SDK."""
import hashlib
import os
import subprocess
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from conftest import NODE


def client(daemon, secret=None, **config):
    env = daemon.env()
    return boto3.client("s3", endpoint_url=daemon.info["s3"], region_name="us-east-1",
                        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
                        aws_secret_access_key=secret or env["AWS_SECRET_ACCESS_KEY"],
                        config=Config(retries={"max_attempts": 0}, **config))


def code(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return (caught.value.response["Error"]["Code"],
            caught.value.response["ResponseMetadata"]["HTTPStatusCode"])


def s3_cli(daemon, *args, check=True):
    done = subprocess.run(["aws", "s3", *map(str, args)], env=daemon.env(), capture_output=True,
                          text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done


def blobs(daemon):
    return len([p for p in (daemon.home / "s3").iterdir()])


def test_cli_copies_there_and_back(daemon, tmp_path):
    """20 MiB: the CLI sends it as a multipart upload."""
    before = blobs(daemon)
    data = os.urandom(20 << 20)
    (tmp_path / "big").write_bytes(data)
    (tmp_path / "tree").mkdir()
    for i in range(12):
        (tmp_path / f"tree/{i} ä+&.txt").write_text(str(i))
    s3_cli(daemon, "mb", "s3://cli-bucket")
    s3_cli(daemon, "cp", tmp_path / "big", "s3://cli-bucket/dir/big")
    s3_cli(daemon, "cp", "s3://cli-bucket/dir/big", tmp_path / "back")
    assert hashlib.sha256((tmp_path / "back").read_bytes()).digest() == \
        hashlib.sha256(data).digest()
    s3_cli(daemon, "sync", tmp_path / "tree", "s3://cli-bucket/tree")
    assert "PRE tree/" in s3_cli(daemon, "ls", "s3://cli-bucket").stdout
    assert len(s3_cli(daemon, "ls", "s3://cli-bucket/tree/").stdout.splitlines()) == 12
    assert blobs(daemon) == before + 13
    refused = s3_cli(daemon, "rb", "s3://cli-bucket", check=False)
    assert refused.returncode != 0 and "BucketNotEmpty" in refused.stderr
    s3_cli(daemon, "rm", "--recursive", "s3://cli-bucket")
    s3_cli(daemon, "rb", "s3://cli-bucket")
    assert blobs(daemon) == before
    missing = s3_cli(daemon, "cp", tmp_path / "back", "s3://no-such-bucket/x", check=False)
    assert "NoSuchBucket" in missing.stderr


@pytest.mark.parametrize("config", [
    {},                                                 # unsigned chunks or a CRC, as it chooses
    {"request_checksum_calculation": "when_required"},
    {"s3": {"payload_signing_enabled": True}},
])
def test_boto3_ways_of_sending(daemon, config, tmp_path):
    s3 = client(daemon, **config)
    s3.create_bucket(Bucket="ways")
    s3.put_object(Bucket="ways", Key="bytes", Body=b"data", Metadata={"who": "me"},
                  ContentType="text/x-test")
    got = s3.get_object(Bucket="ways", Key="bytes")
    assert got["Body"].read() == b"data" and got["Metadata"] == {"who": "me"}
    assert got["ContentType"] == "text/x-test"
    assert got["ETag"] == '"%s"' % hashlib.md5(b"data").hexdigest()
    (tmp_path / "f").write_bytes(b"x" * 100000)
    with open(tmp_path / "f", "rb") as f:
        s3.put_object(Bucket="ways", Key="file", Body=f)
    assert s3.head_object(Bucket="ways", Key="file")["ContentLength"] == 100000
    s3.put_object(Bucket="ways", Key="empty", Body=b"")
    assert s3.get_object(Bucket="ways", Key="empty")["Body"].read() == b""


def test_ranges_and_conditions(daemon):
    s3 = client(daemon)
    s3.create_bucket(Bucket="ranges")
    etag = s3.put_object(Bucket="ranges", Key="k", Body=b"0123456789")["ETag"]
    part = s3.get_object(Bucket="ranges", Key="k", Range="bytes=2-4")
    assert part["Body"].read() == b"234" and part["ContentRange"] == "bytes 2-4/10"
    assert s3.get_object(Bucket="ranges", Key="k", Range="bytes=-3")["Body"].read() == b"789"
    assert code(s3.get_object, Bucket="ranges", Key="k", Range="bytes=10-") == ("InvalidRange", 416)
    assert code(s3.get_object, Bucket="ranges", Key="k", IfNoneMatch=etag)[1] == 304
    assert code(s3.get_object, Bucket="ranges", Key="k", IfMatch='"x"') == \
        ("PreconditionFailed", 412)


def test_lists_page_by_page(daemon):
    s3 = client(daemon)
    s3.create_bucket(Bucket="pages")
    keys = sorted([f"d{i}/{j}" for i in range(4) for j in range(3)] + ["a&b", "z z", "ü"])
    for key in keys:
        s3.put_object(Bucket="pages", Key=key, Body=b"x")
    pages = list(s3.get_paginator("list_objects_v2").paginate(
        Bucket="pages", PaginationConfig={"PageSize": 4}))
    assert [o["Key"] for p in pages for o in p["Contents"]] == keys and len(pages) == 4
    pages = list(s3.get_paginator("list_objects_v2").paginate(
        Bucket="pages", Delimiter="/", PaginationConfig={"PageSize": 2}))
    assert [c["Prefix"] for p in pages for c in p.get("CommonPrefixes", [])] == \
        ["d0/", "d1/", "d2/", "d3/"]
    assert [o["Key"] for p in pages for o in p.get("Contents", [])] == ["a&b", "z z", "ü"]
    old = s3.list_objects(Bucket="pages", Prefix="d1/")
    assert [o["Key"] for o in old["Contents"]] == ["d1/0", "d1/1", "d1/2"]
    deleted = s3.delete_objects(Bucket="pages", Delete={"Objects": [{"Key": k} for k in keys]})
    assert len(deleted["Deleted"]) == len(keys)
    assert s3.list_objects_v2(Bucket="pages")["KeyCount"] == 0


def test_refusals(daemon):
    s3 = client(daemon)
    s3.create_bucket(Bucket="refusals")
    assert code(s3.get_object, Bucket="refusals", Key="no") == ("NoSuchKey", 404)
    assert code(s3.get_object, Bucket="no-such-bucket", Key="no") == ("NoSuchBucket", 404)
    assert code(s3.put_object, Bucket="refusals", Key="k", Body=b"x",
                ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==") == ("BadDigest", 400)
    assert code(s3.put_object, Bucket="refusals", Key="k", Body=b"x",
                ChecksumSHA256="A" * 43 + "=") == ("BadDigest", 400)
    assert code(s3.get_bucket_versioning, Bucket="refusals") == ("NotImplemented", 501)
    assert code(s3.copy_object, Bucket="refusals", Key="b", CopySource="refusals/a") == \
        ("NotImplemented", 501)
    assert code(client(daemon, secret="wrong").list_buckets) == ("SignatureDoesNotMatch", 403)
    upload = s3.create_multipart_upload(Bucket="refusals", Key="mp")["UploadId"]
    tags = [s3.upload_part(Bucket="refusals", Key="mp", UploadId=upload, PartNumber=n,
                           Body=b"small")["ETag"] for n in (1, 2)]

    def complete(*parts):
        return code(s3.complete_multipart_upload, Bucket="refusals", Key="mp", UploadId=upload,
                    MultipartUpload={"Parts": [{"PartNumber": n, "ETag": t} for n, t in parts]})

    assert complete((1, tags[0]), (2, tags[1])) == ("EntityTooSmall", 400)
    assert complete((1, '"' + "0" * 32 + '"')) == ("InvalidPart", 400)
    assert complete((2, tags[1]), (1, tags[0])) == ("InvalidPartOrder", 400)
    s3.abort_multipart_upload(Bucket="refusals", Key="mp", UploadId=upload)
    assert complete((1, tags[0])) == ("NoSuchUpload", 404)


def test_presigned(daemon):
    s3 = client(daemon, signature_version="s3v4")
    s3.create_bucket(Bucket="presigned")
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "presigned", "Key": "k"})
    request = urllib.request.Request(url, data=b"by url", method="PUT",
                                     headers={"Content-Type": ""})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    assert opener.open(request).status == 200
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "presigned", "Key": "k"})
    assert opener.open(url).read() == b"by url"
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(url.replace("presigned/k", "presigned/other"))
    assert caught.value.code == 403 and b"SignatureDoesNotMatch" in caught.value.read()


SCRIPT = """
import { S3Client, CreateBucketCommand, PutObjectCommand, GetObjectCommand, HeadObjectCommand,
         CreateMultipartUploadCommand, UploadPartCommand, CompleteMultipartUploadCommand }
  from "@aws-sdk/client-s3";
import { createReadStream } from "node:fs";
import assert from "node:assert/strict";
const s3 = new S3Client({ forcePathStyle: true });
const at = { Bucket: "javascript", Key: "dir/ä b+c" };
await s3.send(new CreateBucketCommand({ Bucket: at.Bucket }));
await s3.send(new PutObjectCommand({ ...at, Body: "hello" }));
const got = await s3.send(new GetObjectCommand(at));
assert.equal(await got.Body.transformToString(), "hello");
assert.ok(got.ChecksumCRC32);
await s3.send(new PutObjectCommand({ ...at, Key: "stream", Body: createReadStream(process.argv[2]) }));
assert.equal((await s3.send(new HeadObjectCommand({ ...at, Key: "stream" }))).ContentLength, 3000000);
const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ ...at, Key: "mp" }));
const Parts = [];
for (const [PartNumber, Body] of [[1, Buffer.alloc(5 << 20, 1)], [2, "end"]]) {
  const r = await s3.send(new UploadPartCommand({ ...at, Key: "mp", UploadId, PartNumber, Body }));
  Parts.push({ PartNumber, ...r });
}
const done = await s3.send(new CompleteMultipartUploadCommand(
  { ...at, Key: "mp", UploadId, MultipartUpload: { Parts } }));
assert.match(done.ETag, /-2"$/);
await assert.rejects(s3.send(new GetObjectCommand({ ...at, Key: "no" })),
                     (e) => e.name === "NoSuchKey" && e.$metadata.httpStatusCode === 404);
console.log("ok");
"""


def test_javascript_sdk(daemon, tmp_path):
    (NODE / "s3.mjs").write_text(SCRIPT)
    (tmp_path / "body").write_bytes(b"y" * 3000000)
    done = subprocess.run(["node", "--no-warnings", "s3.mjs", tmp_path / "body"], cwd=NODE,
                          env=daemon.env(), capture_output=True, text=True, timeout=120)
    assert done.stdout == "ok\n", done.stderr


def raw_s3(daemon, request, body=b"", timeout=10):
    import socket
    host, _, port = daemon.info["s3"].removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as sock:
        sock.sendall(request.replace("HOST", f"{host}:{port}").encode())
        try:
            for _ in range(0, len(body), 1 << 16):
                sock.sendall(body[:1 << 16])
        except ConnectionError:
            pass
        answer = b""
        try:
            while chunk := sock.recv(65536):
                answer += chunk
        except (ConnectionError, TimeoutError):
            pass
    return answer


def test_unsigned_bodies_are_not_taken(daemon):
    # Answered from the head alone: nobody fills the disk without a signature.
    answer = raw_s3(daemon, "PUT /some/key HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4000000000\r\n\r\n")
    assert b" 403 " in answer and b"<Code>AccessDenied</Code>" in answer
    answer = raw_s3(daemon, "PUT /some/key HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4000000000\r\n"
                    "Expect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert code(client(daemon, secret="wrong" * 8).put_object, Bucket="e2e", Key="k",
                Body=b"x" * 3_000_000) == ("SignatureDoesNotMatch", 403)


@pytest.mark.parametrize("key", ["..", "../../etc/passwd", "a/../b", "/", "//", "a//b", "%2F", "%2e%2e/x", ".",
                                 "ä/\u4e2d\u6587/\U0001f600", "a b+c&d=e?f#g", "x" * 1024, "~", "'\"<>&;"])
def test_odd_keys_are_only_names(daemon, key):
    s3 = client(daemon)
    s3.create_bucket(Bucket="odd-keys")
    s3.put_object(Bucket="odd-keys", Key=key, Body=key.encode())
    assert s3.get_object(Bucket="odd-keys", Key=key)["Body"].read() == key.encode()
    listed = [o["Key"] for o in s3.list_objects_v2(Bucket="odd-keys", EncodingType="url")["Contents"]]
    assert listed == [key] or [urllib.request.unquote(k) for k in listed] == [key], listed
    s3.delete_object(Bucket="odd-keys", Key=key)
    assert code(s3.get_object, Bucket="odd-keys", Key=key)[0] == "NoSuchKey"


def test_keys_and_buckets_that_cannot_be(daemon):
    s3 = client(daemon)
    s3.create_bucket(Bucket="odd-keys")
    assert code(s3.put_object, Bucket="odd-keys", Key="x" * 1025, Body=b"")[0] == "KeyTooLongError"
    assert code(s3.put_object, Bucket="odd-keys", Key="a\0b", Body=b"")[1] == 400
    for bucket in ("ab", "UPPER", "a..b", "-a-b", "127.0.0.1", "x" * 64, "a_b", "abc-"):
        with pytest.raises(Exception) as caught:  # some are stopped by the client already
            s3.create_bucket(Bucket=bucket)
        assert "InternalError" not in str(caught.value), bucket


def test_hostile_xml(daemon):
    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials
    env = daemon.env()
    credentials = botocore.credentials.Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    s3 = client(daemon)
    s3.create_bucket(Bucket="odd-keys")
    laughs = "<!DOCTYPE d [<!ENTITY a '" + "ha" * 50 + "'>" + "".join(
        f"<!ENTITY {chr(98 + i)} '{('&' + chr(97 + i) + ';') * 10}'>" for i in range(9)) + "]>"
    for body in (laughs + "<Delete><Object><Key>&j;</Key></Object></Delete>",
                 "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><Delete><Object><Key>&x;</Key></Object></Delete>",
                 "<Delete>" * 100_000, "<Delete><Object>", "", "\0",
                 "<Delete>" + "<Object><Key>k</Key></Object>" * 1001 + "</Delete>"):
        url = daemon.info["s3"] + "/odd-keys?delete="
        request = botocore.awsrequest.AWSRequest("POST", url, data=body.encode())
        botocore.auth.S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
        try:
            urllib.request.urlopen(urllib.request.Request(
                url, body.encode(), dict(request.headers), method="POST"), timeout=20)
            raise AssertionError(body[:60])
        except urllib.error.HTTPError as e:
            assert e.code == 400, (body[:60], e.code, e.read())
    assert s3.list_buckets()["Buckets"]
