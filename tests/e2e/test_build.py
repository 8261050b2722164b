# SPDX-License-Identifier: Apache-2.0
"""Builds: what goes wrong is said where the user looks, and what is cached costs nothing."""
import io
import zipfile

import pytest

from conftest import ACCOUNT, BASE_IMAGE, BUILD_ROLE, REGION, make_zip, wait_for


def arn(name):
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:{name}"


def fail(daemon, name, data, key=None):
    """Builds what must fail; its stateReason."""
    lam = daemon.client("lambda-microvms")
    if data is not None:
        daemon.upload(f"{name}.zip", data)
    lam.create_microvm_image(name=name, baseImageArn=BASE_IMAGE, buildRoleArn=BUILD_ROLE,
                             codeArtifact={"uri": key or f"s3://e2e/{name}.zip"},
                             resources=[{"minimumMemoryInMiB": 512}])
    image = daemon.wait_image(arn(name))
    assert image["state"] == "CREATE_FAILED"
    reason = daemon.build_reason(arn(name))
    lam.delete_microvm_image(imageIdentifier=arn(name))
    return reason


def escaping_zip(path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("Dockerfile", "FROM debian:12\nCMD [\"true\"]\n")
        z.writestr(path, "gotcha")
    return out.getvalue()


@pytest.mark.parametrize("name,data,text", [
    ("no-dockerfile", make_zip({"readme": "x"}), "ARCHIVE_DOCKERFILE_NOT_FOUND"),
    ("not-a-zip", b"this is no zip archive" * 50, "ARCHIVE_INVALID"),
    ("escape-dots", escaping_zip("../../etc/cron.d/x"), "ARCHIVE_INVALID"),
    ("escape-root", escaping_zip("/etc/cron.d/x"), "ARCHIVE_INVALID"),
    ("unknown-word", make_zip({"Dockerfile": "FROM debian:12\n\nFRMO x\n"}), "Dockerfile:3"),
    ("unknown-base", make_zip({"Dockerfile": "FROM nginx:1\nCMD [\"x\"]\n"}), "Dockerfile:1"),
    ("missing-file", make_zip({"Dockerfile": "FROM debian:12\nCOPY app.py /\nCMD [\"x\"]\n"}),
     "Dockerfile:2"),
    ("failing-run", make_zip({"Dockerfile": "FROM debian:12\nRUN echo no; exit 9\nCMD [\"x\"]\n"}),
     "exit code was 9"),
    ("no-command", make_zip({"Dockerfile": "FROM debian:12\nCMD [\"/no/such\"]\n"}), "/no/such"),
    ("exits", make_zip({"Dockerfile": "FROM debian:12\nCMD exit 3\n"}), "exited with code 3"),
])
def test_a_build_that_cannot_work_says_why(daemon, name, data, text):
    assert text in fail(daemon, name, data)


def test_a_missing_artifact_says_which(daemon):
    daemon.upload("present", b"x")
    assert "S3_NO_SUCH_KEY" in fail(daemon, "no-key", None, "s3://e2e/not-there.zip")
    assert "S3_NO_SUCH_BUCKET" in fail(daemon, "no-bucket", None, "s3://nowhere/x.zip")


def test_failed_builds_leave_nothing_behind(daemon):
    wait_for("temporary files gone", 20, lambda: list((daemon.home / "tmp").iterdir()) == [])


DOCKERFILE = """ARG GREETING=hello
FROM debian:12 AS maker
ARG GREETING
ENV KIND=stage WHERE=/made
WORKDIR /made
RUN echo "$GREETING from $KIND in $PWD" > note && ln -s note link && chmod 640 note
COPY --chown=nobody:nogroup src/ ./src/

FROM maker AS unused
RUN exit 1

FROM debian:bookworm
LABEL purpose=test
SHELL ["/bin/bash", "-c"]
COPY --from=maker /made /srv
RUN [[ -e /srv/note ]] && id -u > /srv/uid && env | grep -c -i ca-bundle > /srv/ca || true
RUN <<EOF
useradd --uid 1234 app
chown app /srv
EOF
COPY --chmod=755 server /server
USER app
WORKDIR /srv
EXPOSE 8080
ENTRYPOINT ["/server"]
CMD ["unused"]
"""


def test_the_dockerfile_language(daemon, tiny):
    from conftest import TINY_SERVER
    image = daemon.build_image("language", {
        "Dockerfile": DOCKERFILE, ".dockerignore": "src/*.log\n!src/keep.log\n",
        "src/a.txt": "a", "src/skip.log": "s", "src/keep.log": "k", "server": TINY_SERVER},
        environmentVariables={"FROM_IMAGE": "yes"})
    assert image["state"] == "CREATED", daemon.build_reason(image["imageArn"])
    vm = daemon.run(image["imageArn"])

    def sh(command):
        return daemon.cli("exec", "--user", "root", vm["microvmId"], "--", "sh", "-c",
                          command).stdout.strip()

    assert daemon.cli("exec", vm["microvmId"], "--", "id", "-un").stdout == "app\n"
    assert sh("cat /srv/note") == "hello from stage in /made"
    assert sh("readlink /srv/link") == "note"
    assert sh("ls /srv/src") == "a.txt\nkeep.log"
    assert sh("stat -c '%U %a' /srv/note") == "root 640"
    assert sh("cat /srv/uid") == "0"
    assert sh("stat -c %U /srv") == "app"
    assert sh("tr '\\0' ' ' < /proc/1/cmdline; stat -c ' %u' /proc/1").split()[-1] == "1234"
    assert sh("echo $FROM_IMAGE-$KIND-$AWS_REGION") == f"yes--{REGION}"  # KIND is another stage's
    # What was lent to RUN steps is in neither the file system nor the environment.
    assert sh("ls /dev/tinderbox 2>/dev/null; env | grep -ci ca-bundle; true").splitlines()[-1] == "0"
    daemon.cli("rm", vm["microvmId"])
    daemon.cli("rm", "language", "--image")


def test_an_unchanged_build_takes_its_steps_from_the_cache(daemon, tiny):
    files = {"Dockerfile": "FROM debian:12\nRUN sleep 1; date +%N > /stamp\nCMD sleep 1000000\n"}
    first = daemon.build_image("cached", files)
    assert first["state"] == "CREATED", daemon.build_reason(first["imageArn"])
    lam = daemon.client("lambda-microvms")
    updated = lam.update_microvm_image(
        imageIdentifier=first["imageArn"], baseImageArn=BASE_IMAGE, buildRoleArn=BUILD_ROLE,
        codeArtifact={"uri": "s3://e2e/cached.zip"}, resources=[{"minimumMemoryInMiB": 512}])
    assert updated["imageVersion"] == "2.0"
    assert daemon.wait_image(first["imageArn"])["state"] == "UPDATED"
    assert "CACHED" in daemon.cli("logs", "cached").stdout
    daemon.cli("rm", "cached", "--image")


def test_ready_hook_decides_when_the_snapshot_is_taken(daemon):
    server = r"""#!/usr/bin/perl
use IO::Socket::INET; my $n = 0;
my $l = IO::Socket::INET->new(LocalPort => 9000, Listen => 8, ReuseAddr => 1) or die;
while (my $c = $l->accept) {
    my $line = <$c>; while (defined(my $h = <$c>)) { last if $h =~ /^\r?$/ }
    $n++ if $line =~ m{POST /aws/lambda-microvms/runtime/v1/ready};
    my $code = $n < 3 && $line =~ /ready/ ? '503 Later' : '200 OK';
    print $c "HTTP/1.1 $code\r\nContent-Length: 2\r\nConnection: close\r\n\r\n$n\n"; close $c;
}
"""
    image = daemon.build_image(
        "ready", {"Dockerfile": "FROM debian:12\nCOPY --chmod=755 s /s\nCMD [\"/s\"]\n", "s": server},
        hooks={"port": 9000, "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 60,
                                                   "validate": "ENABLED"},
               "microvmHooks": {"run": "ENABLED", "runTimeoutInSeconds": 10}})
    assert image["state"] == "CREATED", daemon.build_reason(image["imageArn"])
    vm = daemon.run(image["imageArn"], runHookPayload="{\"a\":1}")
    token = daemon.token(vm["microvmId"], 9000)
    status, body, _ = daemon.request(vm["endpoint"], "/", token, port=9000)
    assert (status, body) == (200, "3\n")  # frozen right after the third /ready
    daemon.cli("rm", vm["microvmId"])
    daemon.cli("rm", "ready", "--image")


def test_a_wrong_ready_port_times_out_with_the_port_named(daemon):
    lam = daemon.client("lambda-microvms")
    daemon.upload("unready.zip", make_zip({"Dockerfile": "FROM debian:12\nCMD sleep 100000\n"}))
    lam.create_microvm_image(
        name="unready", baseImageArn=BASE_IMAGE, buildRoleArn=BUILD_ROLE,
        codeArtifact={"uri": "s3://e2e/unready.zip"}, resources=[{"minimumMemoryInMiB": 512}],
        hooks={"port": 9001, "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 3}})
    assert daemon.wait_image(arn("unready"))["state"] == "CREATE_FAILED"
    reason = daemon.build_reason(arn("unready"))
    assert "Ready hook invocation timed out after PT3S" in reason and "9001" in reason
    lam.delete_microvm_image(imageIdentifier=arn("unready"))


def test_a_daemon_killed_in_the_middle_of_a_build_finishes_it(daemon):
    lam = daemon.client("lambda-microvms")
    daemon.upload("midway.zip", make_zip({
        "Dockerfile": "FROM debian:12\nRUN echo one\nRUN sleep 8\nCMD sleep 1000000\n"}))
    lam.create_microvm_image(name="midway", baseImageArn=BASE_IMAGE, buildRoleArn=BUILD_ROLE,
                             codeArtifact={"uri": "s3://e2e/midway.zip"},
                             resources=[{"minimumMemoryInMiB": 512}])
    wait_for("second step", 60, lambda: "sleep 8" in daemon.cli("logs", "midway").stdout)
    daemon.kill()
    daemon.start()
    assert daemon.wait_image(arn("midway"))["state"] == "CREATED", daemon.build_reason(arn("midway"))
    daemon.cli("rm", "midway", "--image")
