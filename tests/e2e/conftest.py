# SPDX-License-Identifier: Apache-2.0
"""The real daemon for the whole session, and the clients' view of it.

TINDERBOX_BUILD names the build tree, TINDERBOX_GUEST_DIR the guest kit, TINDERBOX_NODE a folder with
the Node clients; ./check sets them."""
import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import time
import http.client

import pytest

BUILD = pathlib.Path(os.environ.get("TINDERBOX_BUILD", "build")).resolve()
GUEST = pathlib.Path(os.environ.get("TINDERBOX_GUEST_DIR", "")).resolve()
NODE = pathlib.Path(os.environ.get("TINDERBOX_NODE", "node")).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[2]
ACCOUNT = "000000000000"
REGION = "us-east-1"
BASE_IMAGE = f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1"
BUILD_ROLE = f"arn:aws:iam::{ACCOUNT}:role/build"


def wait_for(what, timeout, probe, every=0.1):
    """Polls until probe() is truthy; the value is returned."""
    end = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout} s")
        time.sleep(every)


class Daemon:
    """One tinderboxd with a home of its own."""

    def __init__(self, home):
        self.home = pathlib.Path(home)
        self.process = None
        self.info = None

    def start(self, **settings):
        (self.home / "log").mkdir(parents=True, exist_ok=True)
        keys = {"api.port": 0, "s3.port": 0, "endpoint.port": 0, "guest.dir": GUEST, **settings}
        if (BUILD / "tests/engine/tinderbox-net").exists():  # a build with sanitizers
            keys["helper.dir"] = BUILD / "tests/engine"
        if self.info:  # a restart keeps its addresses, as a user's would
            keys["api.port"] = self.info["api"].rsplit(":", 1)[1]
            keys["s3.port"] = self.info["s3"].rsplit(":", 1)[1]
            keys["endpoint.port"] = self.info["endpoint"]["port"]
        args = [str(BUILD / "src/daemon/tinderboxd"), "--home", str(self.home)]
        for key, value in keys.items():
            args += ["--set", f"{key}={value}"]
        with open(self.home / "log/daemon.log", "ab") as log:
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        ready = self.home / "run/daemon.json"

        def probe():
            assert self.process.poll() is None, self.log_tail()
            if not ready.exists():
                return None
            info = json.loads(ready.read_text())
            return info if info["pid"] == self.process.pid else None

        self.info = wait_for("daemon ready", 60, probe)
        return self

    def log_tail(self):
        return (self.home / "log/daemon.log").read_text()[-3000:]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=120) == 0, self.log_tail()  # leaks count under a sanitizer

    def env(self):
        """What `tinderbox env` prints, as a dictionary over a clean environment."""
        out = subprocess.run([BUILD / "src/cli/tinderbox", "--home", self.home, "env"], check=True,
                             capture_output=True, text=True).stdout
        env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        for line in out.splitlines():
            if line.startswith("export "):
                key, _, value = line[len("export "):].partition("=")
                env[key] = value.strip("'\"")
        return env

    def cli(self, *args, check=True, **kw):
        return subprocess.run([BUILD / "src/cli/tinderbox", "--home", self.home, *map(str, args)],
                              check=check, capture_output=True, text=True, timeout=900, **kw)

    def aws(self, *args, check=True):
        done = subprocess.run(["aws", "--output", "json", *map(str, args)], env=self.env(),
                              capture_output=True, text=True, timeout=300)
        if check:
            assert done.returncode == 0, done.stderr + self.log_tail()
            return json.loads(done.stdout) if done.stdout.strip() else None
        return done

    def client(self, service):
        import boto3
        from botocore.config import Config
        env = self.env()
        url = self.info["s3"] if service == "s3" else self.info["api"]
        return boto3.client(service, endpoint_url=url, region_name=REGION,
                            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
                            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
                            config=Config(retries={"max_attempts": 1}))

    def request(self, endpoint, path="/", token=None, port=None, headers=None, method="GET",
                body=None, timeout=60):
        """One HTTPS request to a VM's endpoint, certificate verified against the service's CA."""
        host, _, number = endpoint.partition(":")
        context = ssl.create_default_context(cafile=self.info["ca"])
        conn = http.client.HTTPSConnection(host, int(number or 443), timeout=timeout,
                                           context=context)
        # *.localhost need not resolve everywhere; the name still goes into SNI and Host.
        conn._create_connection = lambda _addr, *a, **k: __import__("socket").create_connection(
            (self.info["endpoint"]["address"], int(number or 443)), *a, **k)
        fields = dict(headers or {})
        if token:
            fields["X-aws-proxy-auth"] = token
        if port:
            fields["X-aws-proxy-port"] = str(port)
        try:
            conn.request(method, path, body=body, headers=fields)
            answer = conn.getresponse()
            return answer.status, answer.read().decode(), dict(
                (k.lower(), v) for k, v in answer.getheaders())
        finally:
            conn.close()

    def build_image(self, name, files, **create):
        """Uploads a zip of {path: text or bytes}, creates the image, waits; the version body."""
        lam = self.client("lambda-microvms")
        self.upload(f"{name}.zip", make_zip(files))
        self.forget_image(name)
        arn = lam.create_microvm_image(
            name=name, baseImageArn=BASE_IMAGE, buildRoleArn=BUILD_ROLE,
            codeArtifact={"uri": f"s3://e2e/{name}.zip"},
            resources=[{"minimumMemoryInMiB": 512}], **create)["imageArn"]
        return self.wait_image(arn)

    def forget_image(self, name):
        """A home that outlives the session may hold the image, and what a failed test left of it."""
        lam = self.client("lambda-microvms")
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:{name}"
        try:
            lam.get_microvm_image(imageIdentifier=arn)
        except lam.exceptions.ResourceNotFoundException:
            return
        for vm in lam.list_microvms(imageIdentifier=arn)["items"]:
            if vm["state"] != "TERMINATED":
                lam.terminate_microvm(microvmIdentifier=vm["microvmId"])
                self.wait_state(vm["microvmId"], "TERMINATED")
        lam.delete_microvm_image(imageIdentifier=arn)

        def gone():
            try:
                lam.get_microvm_image(imageIdentifier=arn)
            except lam.exceptions.ResourceNotFoundException:
                return True
            return False

        wait_for(f"{name} deleted", 30, gone)

    def upload(self, key, data):
        s3 = self.client("s3")
        s3.create_bucket(Bucket="e2e")
        s3.put_object(Bucket="e2e", Key=key, Body=data)

    def wait_image(self, arn, timeout=600):
        lam = self.client("lambda-microvms")

        def probe():
            image = lam.get_microvm_image(imageIdentifier=arn)
            return image if image["state"] in ("CREATED", "CREATE_FAILED", "UPDATED",
                                               "UPDATE_FAILED") else None

        return wait_for(f"image {arn}", timeout, probe, 0.5)

    def build_reason(self, arn, version="1.0"):
        lam = self.client("lambda-microvms")
        items = lam.list_microvm_image_builds(imageIdentifier=arn, imageVersion=version)["items"]
        return items[0].get("stateReason")

    def wait_state(self, microvm_id, state, timeout=60):
        lam = self.client("lambda-microvms")

        def probe():
            vm = lam.get_microvm(microvmIdentifier=microvm_id)
            assert vm["state"] != "TERMINATED" or state == "TERMINATED", vm.get("stateReason")
            return vm if vm["state"] == state else None

        return wait_for(f"{microvm_id} {state}", timeout, probe)

    def run(self, arn, **members):
        lam = self.client("lambda-microvms")
        vm = lam.run_microvm(imageIdentifier=arn, **members)
        self.wait_state(vm["microvmId"], "RUNNING")
        return vm

    def token(self, microvm_id, *ports):
        lam = self.client("lambda-microvms")
        return lam.create_microvm_auth_token(
            microvmIdentifier=microvm_id, expirationInMinutes=10,
            allowedPorts=[{"port": p} for p in ports])["authToken"]["X-aws-proxy-auth"]


def make_zip(files):
    import io
    import zipfile
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for path, data in files.items():
            z.writestr(zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def machines_of(home):
    """Monitor processes whose command line names this home."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(home).encode() in line and b"qemu" in line:
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="session")
def daemon(tmp_path_factory):
    if not (BUILD / "src/daemon/tinderboxd").exists() or not (GUEST / "vmlinux").exists():
        pytest.skip("needs TINDERBOX_BUILD and TINDERBOX_GUEST_DIR")
    # A checker's cache of build steps outlives the session: heavy images are built once.
    home = pathlib.Path(os.environ.get("TINDERBOX_E2E_HOME") or tmp_path_factory.mktemp("home"))
    d = Daemon(home).start()
    yield d
    d.stop()
    assert machines_of(home) == []
    if not os.environ.get("TINDERBOX_E2E_HOME"):
        shutil.rmtree(home, ignore_errors=True)


TINY_DOCKERFILE = """FROM debian:12
COPY --chmod=755 server /server
CMD ["/server"]
"""

# perl-base is in the image.
TINY_SERVER = r"""#!/usr/bin/perl
use strict; use IO::Socket::INET;
$| = 1;
my $count = 0;
my $l = IO::Socket::INET->new(LocalPort => 8080, Listen => 64, ReuseAddr => 1) or die "listen: $!";
print "listening\n";
$SIG{CHLD} = 'IGNORE';
while (my $c = $l->accept) {
    my ($method, $path) = (<$c> // '') =~ m{^(\S+) (\S+)};
    my $length = 0;
    while (defined(my $h = <$c>)) { last if $h =~ /^\r?$/; $length = $1 if $h =~ /^content-length:\s*(\d+)/i; }
    my $body = ''; read $c, $body, $length if $length;
    $count++;
    my $out = "count=$count pid=$$\n";
    $out = do { local (@ARGV, $/) = ('/proc/sys/kernel/random/uuid'); <> } if $path eq '/uuid';
    $out = do { local (@ARGV, $/) = ('/etc/machine-id'); <> } if $path eq '/machine-id';
    $out = `hostname` if $path eq '/hostname';
    $out = time() . "\n" if $path eq '/time';
    $out = join('', map { "$_=$ENV{$_}\n" } sort keys %ENV) if $path eq '/env';
    $out = $body if $method eq 'POST';
    if ($path =~ m{^/write/(\w+)}) { open my $f, '>', "/marker-$1"; print $f $1; close $f; $out = "ok\n"; }
    if ($path eq '/markers') { $out = join(',', sort glob('/marker-*')) . "\n"; }
    if ($path =~ m{^/exit/(\d+)}) { print $c "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; close $c; exit $1; }
    print "$method $path\n";
    print $c "HTTP/1.1 200 OK\r\nContent-Length: " . length($out) . "\r\nConnection: close\r\n\r\n$out";
    close $c;
}
"""


@pytest.fixture(scope="session")
def tiny(daemon):
    """A small image: perl web server on 8080. Its ARN."""
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:tiny"
    lam = daemon.client("lambda-microvms")
    if any(i["name"] == "tiny" and i["state"] == "CREATED" for i in lam.list_microvm_images()["items"]):
        return arn  # a home that was kept
    image = daemon.build_image("tiny", {"Dockerfile": TINY_DOCKERFILE, "server": TINY_SERVER})
    assert image["state"] == "CREATED", daemon.build_reason(arn) or daemon.log_tail()
    return image["imageArn"]


@pytest.fixture(scope="session")
def probe(daemon):
    """The image of probe.py. Its ARN."""
    import probe as image
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:probe"
    lam = daemon.client("lambda-microvms")
    if not any(i["name"] == "probe" and i["state"] == "CREATED"
               for i in lam.list_microvm_images()["items"]):
        made = daemon.build_image("probe", image.FILES)
        assert made["state"] == "CREATED", daemon.build_reason(arn) or daemon.log_tail()
    return arn
