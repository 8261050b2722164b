# SPDX-License-Identifier: Apache-2.0
"""Files into and out of a running microVM: by `tinderbox cp` and by the extension it uses."""
import hashlib
import io
import json
import os
import tarfile
import urllib.parse
import urllib.request

import pytest

from conftest import REGION


@pytest.fixture(scope="module")
def vm(daemon, tiny):
    vm = daemon.run(tiny)
    yield vm["microvmId"]
    daemon.cli("rm", vm["microvmId"])


def sh(daemon, vm, script, check=True):
    return daemon.cli("exec", vm, "--", "sh", "-c", script, check=check)


def files(daemon, vm, method, path, body=b"", query=""):
    """One signed request of the extension: status and body."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    env = daemon.env()
    url = (f"{daemon.info['api']}/tinderbox/v1/microvms/{vm}/files?path="
           f"{urllib.parse.quote(path, safe='')}{query}")
    request = AWSRequest(method=method, url=url, data=body,
                         headers={"x-amz-content-sha256": hashlib.sha256(body).hexdigest()})
    SigV4Auth(Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]), "lambda",
              REGION).add_auth(request)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data=body or None, method=method,
                                                headers=dict(request.headers)), timeout=300) as r:
            return r.status, r.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


def tar_of(*members):
    """A tar of (name, bytes or link target, type, uid, gid)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, data, kind, uid, gid in members:
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid, info.mode = kind, uid, gid, 0o644
            if kind == tarfile.REGTYPE:
                info.size = len(data)
                t.addfile(info, io.BytesIO(data))
            else:
                info.linkname = data
                t.addfile(info)
    return out.getvalue()


def test_a_tree_goes_in_and_comes_back(daemon, vm, tmp_path):
    src = tmp_path / "tree"
    (src / "sub/empty").mkdir(parents=True)
    big = os.urandom(20 * 1024 * 1024)
    (src / "big").write_bytes(big)
    (src / "sub/run").write_text("#!/bin/sh\necho ran\n")
    (src / "sub/run").chmod(0o755)
    (src / "secret").write_text("s")
    (src / "secret").chmod(0o600)
    os.utime(src / "secret", (1_000_000_000, 1_000_000_000))
    os.link(src / "secret", src / "sub/same")
    os.symlink("../big", src / "sub/link")
    os.symlink("/nowhere", src / "dangling")
    (src / ("long" * 40)).write_text("long")
    (src / "grün").write_text("name")

    daemon.cli("cp", src, f"{vm}:/srv/in")  # a new name
    assert sh(daemon, vm, "/srv/in/sub/run").stdout == "ran\n"
    out = sh(daemon, vm, "sha256sum </srv/in/big; stat -c '%a %u %h %Y' /srv/in/secret;"
                         "readlink /srv/in/sub/link; stat -c %a /srv/in/sub/run").stdout.split()
    assert out[0] == hashlib.sha256(big).hexdigest()
    assert out[2:] == ["600", "0", "2", "1000000000", "../big", "755"]

    daemon.cli("cp", f"{vm}:/srv/in", tmp_path / "back")
    back = tmp_path / "back"
    assert hashlib.sha256((back / "big").read_bytes()).digest() == hashlib.sha256(big).digest()
    assert sorted(os.path.relpath(os.path.join(d, n), back)
                  for d, ds, fs in os.walk(back) for n in ds + fs) == sorted(
        os.path.relpath(os.path.join(d, n), src) for d, ds, fs in os.walk(src) for n in ds + fs)
    assert os.readlink(back / "sub/link") == "../big" and os.readlink(back / "dangling") == "/nowhere"
    assert (back / "sub/run").stat().st_mode & 0o7777 == 0o755
    secret = (back / "secret").stat()
    assert (secret.st_mode & 0o7777, secret.st_mtime, secret.st_nlink) == (0o600, 1e9, 2)


def test_cp_puts_things_where_docker_cp_does(daemon, vm, tmp_path):
    one = tmp_path / "one"
    one.write_text("1")
    daemon.cli("cp", one, f"{vm}:/tmp")        # into a directory
    daemon.cli("cp", one, f"{vm}:/tmp/two")    # under a new name
    (tmp_path / "d").mkdir()
    (tmp_path / "d/three").write_text("3")
    sh(daemon, vm, "mkdir -p /srv/here /srv/contents")
    daemon.cli("cp", tmp_path / "d", f"{vm}:/srv/here")
    daemon.cli("cp", f"{tmp_path}/d/.", f"{vm}:/srv/contents")
    assert sh(daemon, vm, "cat /tmp/one /tmp/two /srv/here/d/three /srv/contents/three").stdout == "1133"
    (tmp_path / "out").mkdir()
    daemon.cli("cp", f"{vm}:/tmp/two", tmp_path / "out")
    daemon.cli("cp", f"{vm}:/srv/here/.", tmp_path / "out")
    daemon.cli("cp", f"{vm}:/tmp/two", tmp_path / "named")
    assert (tmp_path / "out/two").read_text() == (tmp_path / "named").read_text() == "1"
    assert (tmp_path / "out/d/three").read_text() == "3"
    for bad, says in (((one, f"{vm}:/nope/x"), "No such file"), ((one, f"{vm}:/nope/"), "not exist"),
                      ((tmp_path / "d", f"{vm}:/tmp/one"), "onto the file"),
                      ((f"{vm}:/missing", tmp_path), "No such file"),
                      ((tmp_path / "missing", f"{vm}:/tmp"), "No such file"),
                      ((one, tmp_path / "two"), "exactly one"),
                      ((one, f"{vm}:tmp"), "begin with")):
        done = daemon.cli("cp", *bad, check=False)
        assert done.returncode == 1 and says in done.stderr, (bad, done.stderr)


def test_owners_are_kept_on_request(daemon, vm, tmp_path):
    sh(daemon, vm, "echo x >/srv/owned; chown 1234:2345678 /srv/owned; chmod 4755 /srv/owned")
    status, body = files(daemon, vm, "GET", "/srv/owned")
    with tarfile.open(fileobj=io.BytesIO(body)) as t:
        info = t.getmember("owned")
    assert status == 200 and (info.uid, info.gid, info.mode) == (1234, 2345678, 0o4755)
    assert files(daemon, vm, "PUT", "/srv", tar_of(("put", b"p", tarfile.REGTYPE, 4321, 5)))[0] == 204
    assert sh(daemon, vm, "stat -c %u:%g /srv/put").stdout == "4321:5\n"
    daemon.cli("cp", f"{vm}:/srv/owned", tmp_path / "plain")
    assert (tmp_path / "plain").stat().st_mode & 0o7777 == 0o755  # no set-id bits from a guest
    if os.geteuid() == 0:
        daemon.cli("cp", "-a", f"{vm}:/srv/owned", tmp_path / "kept")
        assert (tmp_path / "kept").stat().st_uid == 1234
        daemon.cli("cp", "-a", tmp_path / "kept", f"{vm}:/srv/again")
        assert sh(daemon, vm, "stat -c '%u:%g %a' /srv/again").stdout == "1234:2345678 4755\n"


def test_a_list_tells_what_is_there(daemon, vm):
    sh(daemon, vm, "mkdir -p /srv/l/sub; echo 12345 >/srv/l/f; ln -s f /srv/l/s")
    status, body = files(daemon, vm, "GET", "/srv/l", query="&list=true")
    listed = json.loads(body)
    assert status == 200 and listed["type"] == "dir"
    entries = {x["name"]: x for x in listed["entries"]}
    assert {n: x["type"] for n, x in entries.items()} == {"sub": "dir", "f": "file", "s": "link"}
    assert entries["f"]["size"] == 6 and entries["s"]["target"] == "f"
    status, body = files(daemon, vm, "GET", "/srv/l/s", query="&list=true")
    assert json.loads(body)["type"] == "file" and "entries" not in json.loads(body)


def test_errors(daemon, vm):
    good = tar_of(("a", b"a", tarfile.REGTYPE, 0, 0))
    for method, path, body, status in (
            ("GET", "/missing", b"", 404), ("PUT", "/missing", good, 404), ("GET", "rel", b"", 400),
            ("PUT", "/etc/hostname", good, 400), ("PUT", "/srv", b"no tar" * 1000, 400),
            ("PUT", "/srv", b"", 400), ("PUT", "/srv", good[:700], 400),
            ("PUT", "/srv", tar_of(("../up", b"u", tarfile.REGTYPE, 0, 0)), 400)):
        got = files(daemon, vm, method, path, body)
        assert got[0] == status and b"essage" in got[1], (method, path, got)
    gone = "microvm-00000000-0000-4000-8000-000000000000"
    assert files(daemon, gone, "GET", "/")[0] == 404
    assert sh(daemon, vm, "ls /up", check=False).returncode != 0


def test_links_lead_nowhere_else(daemon, vm):
    # Out of the target by the archive's own link, by one that was there, and by /proc.
    sh(daemon, vm, "mkdir -p /srv/t /victim; ln -sfn /victim /srv/t/abs; ln -sfn /proc/1/root /srv/m")
    status, _ = files(daemon, vm, "PUT", "/srv/t", tar_of(
        ("own", "/victim", tarfile.SYMTYPE, 0, 0), ("own/x", b"x", tarfile.REGTYPE, 0, 0)))
    assert status == 400  # the link points to nothing inside of the target
    files(daemon, vm, "PUT", "/srv/t", tar_of(("abs/y", b"y", tarfile.REGTYPE, 0, 0)))
    assert sh(daemon, vm, "ls /victim").stdout == ""
    assert files(daemon, vm, "GET", "/srv/m/etc/hostname")[0] == 400
    # A link in the application's root to the host's view of things stays in that root.
    sh(daemon, vm, "ln -sfn /../../../../etc/hostname /srv/up")
    name = sh(daemon, vm, "cat /etc/hostname").stdout.encode()
    body = files(daemon, vm, "GET", "/srv/../../../../etc/hostname")[1]
    with tarfile.open(fileobj=io.BytesIO(body)) as t:
        assert t.extractfile("hostname").read() == name
    assert b"bin/tinderbox-unpack" not in files(daemon, vm, "GET", "/bin", query="&list=true")[1]


def test_the_whole_root_can_be_read(daemon, vm):
    status, body = files(daemon, vm, "GET", "/etc/")
    with tarfile.open(fileobj=io.BytesIO(body)) as t:
        assert status == 200 and "etc/passwd" in t.getnames()
    status, body = files(daemon, vm, "GET", "/proc/self/fd", query="&list=true")
    assert status in (400, 404)  # the helper is no process of the application's
