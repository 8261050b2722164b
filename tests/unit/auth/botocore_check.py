#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Requests signed by botocore, the signer of the AWS CLI and boto3, must verify.

Usage: botocore_check.py AUTH_TOOL. Exit 77: botocore is not installed.
"""
import calendar
import hashlib
import json
import subprocess
import sys
import time
from urllib.parse import urlsplit

try:
    from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
except ImportError:
    print("skipped: the Python package botocore is not installed")
    sys.exit(77)

CREDENTIALS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfi")
ARN = "arn%3Aaws%3Alambda%3Aeu-west-1%3A000000000000%3Amicrovm-image%3Ax"
LAMBDA = [
    ("GET", "/2025-09-09/microvms", b""),
    ("GET", "/2025-09-09/microvms?maxResults=5&nextToken=ab%2Fcd%3D%3D", b""),
    ("GET", f"/2025-09-09/microvm-images/{ARN}", b""),
    ("POST", "/2025-09-09/microvms", b'{"imageIdentifier":"x"}'),
    ("DELETE", f"/2017-03-31/tags/{ARN}?tagKeys=a%20b&tagKeys=c", b""),
]
S3 = [
    ("GET", "/", b""),
    ("PUT", "/bucket/key with%20space/%C3%A4%2B%24~.zip".replace(" ", "%20"), b"data"),
    ("GET", "/bucket?list-type=2&prefix=a%2Fb&delimiter=%2F", b""),
    ("POST", "/bucket/key?uploads", b""),
    ("PUT", "/bucket/key?partNumber=1&uploadId=x-y_z", b"part"),
]


def request(method, target, body, signer):
    r = AWSRequest(method=method, url="http://127.0.0.1:9000" + target, data=body)
    r.context["payload_signing_enabled"] = True  # botocore leaves it out over TLS
    signer.add_auth(r)
    return r


def as_query(service, r, body):
    url = urlsplit(r.url)
    headers = [[k.lower(), v] for k, v in r.headers.items()]
    if not any(k == "host" for k, _ in headers):
        headers.append(["host", url.netloc])
    target = url.path + ("?" + url.query if url.query else "")
    return {"op": "verify", "service": service, "method": r.method, "target": target,
            "headers": headers, "sha256": hashlib.sha256(body).hexdigest(),
            "now": calendar.timegm(time.gmtime())}


def main():
    queries = []
    for method, target, body in LAMBDA:
        signer = SigV4Auth(CREDENTIALS, "lambda", "eu-west-1")
        queries.append(as_query("lambda", request(method, target, body, signer), body))
    for method, target, body in S3:
        signer = S3SigV4Auth(CREDENTIALS, "s3", "eu-west-1")
        queries.append(as_query("s3", request(method, target, body, signer), body))
        signer = S3SigV4QueryAuth(CREDENTIALS, "s3", "eu-west-1", expires=60)
        queries.append(as_query("s3", request(method, target, b"", signer), b""))
    damaged = [dict(q, target=q["target"] + ("&" if "?" in q["target"] else "?") + "evil=1")
               for q in queries]
    text = "".join(json.dumps(q) + "\n" for q in queries + damaged)
    out = subprocess.run([sys.argv[1]], input=text, capture_output=True, text=True, check=True)
    replies = [json.loads(line) for line in out.stdout.splitlines()]
    assert len(replies) == 2 * len(queries), replies
    for query, reply in zip(queries, replies):
        assert reply["ok"], (query, reply)
    for query, reply in zip(damaged, replies[len(queries):]):
        assert not reply["ok"], query
    print(f"{len(queries)} requests of botocore verified")


main()
