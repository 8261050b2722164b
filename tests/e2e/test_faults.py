# SPDX-License-Identifier: Apache-2.0
"""What may go wrong: daemons that are killed, disks that are full, guests that misbehave, snapshots
that rot. Every test leaves the service usable; afterwards nothing is left behind."""
import concurrent.futures
import os
import pathlib
import random
import subprocess
import time

import pytest

from conftest import (ACCOUNT, BASE_IMAGE, BUILD, BUILD_ROLE, GUEST, REGION, TINY_DOCKERFILE,
                      TINY_SERVER, Daemon, machines_of, make_zip, wait_for)

TINY = {"Dockerfile": TINY_DOCKERFILE.replace("COPY server", "COPY --chmod=755 server"),
        "server": TINY_SERVER}
KEEP = {"maxIdleDurationSeconds": 3600, "suspendedDurationSeconds": 3600,
        "autoResumeEnabled": True}
FINAL = ("RUNNING", "SUSPENDED", "TERMINATED")


def arn_of(name):
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:microvm-image:{name}"


def have_build():
    return (BUILD / "src/daemon/tinderboxd").exists() and (GUEST / "vmlinux").exists()


def build(daemon, name, dockerfile, **create):
    """The image's state and the reason of its first build."""
    image = daemon.build_image(name, {"Dockerfile": dockerfile}, **create)
    return image["state"], daemon.build_reason(arn_of(name)) or ""


def end(daemon, *vms):
    lam = daemon.client("lambda-microvms")
    for vm in vms:
        lam.terminate_microvm(microvmIdentifier=vm["microvmId"])
    for vm in vms:
        daemon.wait_state(vm["microvmId"], "TERMINATED", 60)


def left_behind(daemon):
    """Directories of VMs and scratch files that belong to nobody."""
    vms = daemon.client("lambda-microvms").list_microvms()["items"]
    live = {vm["microvmId"] for vm in vms if vm["state"] != "TERMINATED"}
    found = [d.name for d in (daemon.home / "vms").iterdir() if d.name not in live]
    return found + [d.name for d in (daemon.home / "tmp").iterdir()]


def assert_clean(daemon):
    wait_for("nothing left behind", 30, lambda: left_behind(daemon) == [])


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """A daemon that may be killed at any time."""
    if not have_build():
        pytest.skip("needs TINDERBOX_BUILD and TINDERBOX_GUEST_DIR")
    d = Daemon(tmp_path_factory.mktemp("victim")).start()
    image = d.build_image("tiny", TINY)
    assert image["state"] == "CREATED", d.build_reason(arn_of("tiny")) or d.log_tail()
    yield d
    d.stop()
    assert machines_of(d.home) == []


# ---- daemons that are killed ---------------------------------------------------------------------

def busy_vm(daemon, seed):
    """Runs, suspends, resumes and terminates until the daemon is gone."""
    choice = random.Random(seed)
    lam = daemon.client("lambda-microvms")
    try:
        vm = lam.run_microvm(imageIdentifier=arn_of("tiny"), idlePolicy=KEEP)["microvmId"]
        for _ in range(50):
            call = choice.choice([lam.suspend_microvm, lam.resume_microvm])
            time.sleep(choice.random() * 0.6)
            try:
                call(microvmIdentifier=vm)
            except lam.exceptions.ConflictException:
                pass
            if choice.random() < 0.05:
                lam.terminate_microvm(microvmIdentifier=vm)
                return
    except Exception:  # noqa: BLE001 - the daemon was killed under us
        return


def test_killed_at_any_moment_nothing_is_lost_or_left(victim):
    rounds = int(os.environ.get("TINDERBOX_KILLS", "8"))
    for n in range(rounds):
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for i in range(3):
                pool.submit(busy_vm, victim, 100 * n + i)
            time.sleep(random.Random(n).uniform(0.3, 4))
            victim.kill()
        wait_for("machines die with the daemon", 10, lambda: machines_of(victim.home) == [])
        victim.start()
        lam = victim.client("lambda-microvms")
        for vm in lam.list_microvms()["items"]:
            assert vm["state"] in ("SUSPENDED", "TERMINATED"), vm
        assert_clean(victim)
        for vm in lam.list_microvms()["items"]:
            if vm["state"] == "SUSPENDED":  # kept, so it has to work
                one = lam.get_microvm(microvmIdentifier=vm["microvmId"])
                status, body, _ = victim.request(one["endpoint"], "/",
                                                 victim.token(vm["microvmId"], 8080))
                assert status == 200 and body.startswith("count="), body
                end(victim, vm)


def test_killed_while_building_the_build_starts_again(victim):
    lam = victim.client("lambda-microvms")
    victim.upload("again.zip", make_zip({"Dockerfile": "FROM debian:12\nRUN sleep 3; echo x > /x\n"
                                                       "CMD [\"sleep\", \"1000\"]\n"}))
    arn = lam.create_microvm_image(name="again", baseImageArn=BASE_IMAGE, buildRoleArn=BUILD_ROLE,
                                   codeArtifact={"uri": "s3://e2e/again.zip"},
                                   resources=[{"minimumMemoryInMiB": 512}])["imageArn"]
    for pause in (0.5, 2, 4):
        time.sleep(pause)
        victim.kill()
        victim.start()
    assert victim.wait_image(arn)["state"] == "CREATED", victim.build_reason(arn)
    victim.client("lambda-microvms").delete_microvm_image(imageIdentifier=arn)
    assert_clean(victim)


# ---- many at once --------------------------------------------------------------------------------

def test_run_and_terminate_at_once(victim):
    lam = victim.client("lambda-microvms")
    for n in range(20):
        vm = lam.run_microvm(imageIdentifier=arn_of("tiny"))
        time.sleep(0.02 * (n % 10))
        lam.terminate_microvm(microvmIdentifier=vm["microvmId"])
        ended = victim.wait_state(vm["microvmId"], "TERMINATED", 15)
        assert ended["stateReason"] == "Success."
    assert_clean(victim)
    assert machines_of(victim.home) == []


def test_suspend_and_resume_in_any_order_end_where_asked(victim):
    vm = victim.run(arn_of("tiny"), idlePolicy=KEEP)
    lam = victim.client("lambda-microvms")
    token = victim.token(vm["microvmId"], 8080)
    before = victim.request(vm["endpoint"], "/", token)[1]
    for n in range(10):
        lam.suspend_microvm(microvmIdentifier=vm["microvmId"])
        time.sleep(0.05 * n)
        lam.suspend_microvm(microvmIdentifier=vm["microvmId"])
        status, body, _ = victim.request(vm["endpoint"], "/", token)
        assert status == 200, (n, body)
    assert body.split("pid=")[1] == before.split("pid=")[1]
    lam.suspend_microvm(microvmIdentifier=vm["microvmId"])
    victim.wait_state(vm["microvmId"], "SUSPENDED")
    end(victim, vm)


def test_ten_runs_at_once(victim):
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        vms = list(pool.map(lambda _: victim.run(arn_of("tiny")), range(10)))
    for vm in vms:
        assert victim.request(vm["endpoint"], "/", victim.token(vm["microvmId"], 8080))[0] == 200
    end(victim, *vms)
    assert_clean(victim)


def test_an_image_is_not_deleted_under_its_vms(victim):
    image = victim.build_image("shared", TINY)
    lam = victim.client("lambda-microvms")
    vm = victim.run(image["imageArn"])
    with pytest.raises(lam.exceptions.ValidationException, match="running microvms"):
        lam.delete_microvm_image(imageIdentifier=image["imageArn"])
    assert victim.request(vm["endpoint"], "/", victim.token(vm["microvmId"], 8080))[0] == 200
    end(victim, vm)
    lam.delete_microvm_image(imageIdentifier=image["imageArn"])
    wait_for("files removed", 20, lambda: not (victim.home / "images/shared").exists())


def test_run_against_delete_leaves_no_vm_without_an_image(victim):
    lam = victim.client("lambda-microvms")
    image = victim.build_image("fleeting", TINY)["imageArn"]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        def run():
            try:
                return lam.run_microvm(imageIdentifier=image)
            except lam.exceptions.ClientError:
                return None
        running = pool.submit(run)
        try:
            lam.delete_microvm_image(imageIdentifier=image)
            deleted = True
        except lam.exceptions.ClientError:
            deleted = False
        vm = running.result()
    assert not (deleted and vm)
    if vm:
        end(victim, vm)


# ---- snapshots that rot --------------------------------------------------------------------------

def test_a_damaged_snapshot_ends_in_a_sentence(victim):
    image = victim.build_image("rotten", TINY)["imageArn"]
    memory = victim.home / "images/rotten/1/snapshot/memory"
    victim.stop()
    memory.chmod(0o600)
    with open(memory, "r+b") as f:
        f.seek(8 << 20)
        f.write(os.urandom(4096))
    victim.start()
    lam = victim.client("lambda-microvms")
    vm = lam.run_microvm(imageIdentifier=image)
    ended = victim.wait_state(vm["microvmId"], "TERMINATED", 30)
    assert "damaged" in ended["stateReason"]
    assert_clean(victim)


# ---- guests that misbehave -----------------------------------------------------------------------

def test_an_application_that_exits_at_once_fails_its_build(victim):
    state, reason = build(victim, "quitter", "FROM debian:12\nCMD [\"sh\", \"-c\", \"exit 3\"]\n")
    assert state == "CREATE_FAILED"
    assert "exited with code 3" in reason
    assert_clean(victim)


def test_a_flood_of_output_is_bounded(victim):
    vm = victim.run(arn_of("tiny"))
    victim.cli("exec", vm["microvmId"], "--", "sh", "-c",
               "timeout 5 yes flood > /proc/1/fd/1; true", check=False)
    assert victim.request(vm["endpoint"], "/", victim.token(vm["microvmId"], 8080))[0] == 200
    size = (victim.home / f"logs/microvm/{vm['microvmId']}.log").stat().st_size
    assert 0 < size < 66 << 20
    end(victim, vm)


def test_a_guest_that_fills_its_disk_or_forks_without_end_harms_itself_only(victim):
    one, other = victim.run(arn_of("tiny")), victim.run(arn_of("tiny"))
    victim.cli("exec", one["microvmId"], "--", "sh", "-c",
               "ulimit -f 65536; head -c 1G /dev/zero > /full; true", check=False)
    subprocess.Popen([BUILD / "src/cli/tinderbox", "--home", victim.home, "exec",
                      one["microvmId"], "--", "perl", "-e", "while (1) { fork }"],
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(3)
    assert victim.request(other["endpoint"], "/", victim.token(other["microvmId"], 8080))[0] == 200
    start = time.monotonic()
    end(victim, one, other)
    assert time.monotonic() - start < 30
    assert_clean(victim)


# ---- last, because its build goes on -------------------------------------------------------------

def test_an_orderly_stop_ends_a_build_quickly(victim):
    lam = victim.client("lambda-microvms")
    victim.upload("slow.zip", make_zip({"Dockerfile": "FROM debian:12\nRUN sleep 300\n"}))
    arn = lam.create_microvm_image(name="slow", baseImageArn=BASE_IMAGE, buildRoleArn=BUILD_ROLE,
                                   codeArtifact={"uri": "s3://e2e/slow.zip"},
                                   resources=[{"minimumMemoryInMiB": 512}])["imageArn"]
    time.sleep(4)
    start = time.monotonic()
    victim.stop()
    assert time.monotonic() - start < 20
    assert machines_of(victim.home) == []
    victim.start()
    assert lam.get_microvm_image(imageIdentifier=arn)["state"] == "CREATING"
    time.sleep(1)
    victim.stop()
    victim.start()


# ---- disks that are full -------------------------------------------------------------------------

@pytest.fixture
def small(tmp_path):
    """A daemon whose home is a file system of 1.5 GiB."""
    if not have_build():
        pytest.skip("needs TINDERBOX_BUILD and TINDERBOX_GUEST_DIR")
    home = tmp_path / "home"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536m,mode=700", "tmpfs", home],
                      capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    d = Daemon(home)
    try:
        yield d.start()
        d.stop()
        assert machines_of(home) == []
    finally:
        if d.process and d.process.poll() is None:
            d.kill()
        subprocess.run(["umount", "-l", home], check=False)


class Ballast:
    """Fills a file system up to so many free bytes."""

    def __init__(self, home, leave):
        self.path = pathlib.Path(home) / "ballast"
        self.leave = leave

    def __enter__(self):
        v = os.statvfs(self.path.parent)
        with open(self.path, "wb") as f:
            os.posix_fallocate(f.fileno(), 0, v.f_bavail * v.f_frsize - self.leave)

    def __exit__(self, *_):
        self.path.unlink()


def test_full_disk(small):
    lam = small.client("lambda-microvms")
    image = small.build_image("tiny", TINY)
    assert image["state"] == "CREATED", small.build_reason(arn_of("tiny"))
    with Ballast(small.home, 96 << 20):
        state, reason = build(small, "fat", "FROM debian:12\n"
                              "RUN head -c 300M /dev/urandom > /fat\nCMD [\"sleep\", \"9\"]\n")
        assert state == "CREATE_FAILED"
        assert "DISK_STORAGE_FULL" in reason, reason
        assert_clean(small)
    vm = small.run(image["imageArn"], idlePolicy=KEEP)
    token = small.token(vm["microvmId"], 8080)
    before = small.request(vm["endpoint"], "/", token)[1]
    with Ballast(small.home, 1 << 20):
        lam.suspend_microvm(microvmIdentifier=vm["microvmId"])
        told = wait_for("the failed suspend to be told", 60, lambda: lam.get_microvm(
            microvmIdentifier=vm["microvmId"]).get("stateReason"))
        assert "space" in told, told
        small.wait_state(vm["microvmId"], "RUNNING")
        status, body, _ = small.request(vm["endpoint"], "/", token)
        assert status == 200 and body.split("pid=")[1] == before.split("pid=")[1]
    lam.suspend_microvm(microvmIdentifier=vm["microvmId"])
    small.wait_state(vm["microvmId"], "SUSPENDED")
    assert small.request(vm["endpoint"], "/", token)[1].split("pid=")[1] == before.split("pid=")[1]
    end(small, vm)
    assert_clean(small)
