# SPDX-License-Identifier: Apache-2.0
"""What hostile code in a microVM can reach: the machine around its container, the agent, the channel."""
import re

import pytest


class Shell:
    """Runs commands as the application does: children of the container's PID 1."""

    def __init__(self, daemon, vm):
        self.daemon, self.vm = daemon, vm
        self.token = daemon.token(vm["microvmId"], 8080)

    def __call__(self, text, timeout=60):
        status, out, _ = self.daemon.request(self.vm["endpoint"], "/sh", self.token, method="POST",
                                             body=text, timeout=timeout)
        assert status == 200, (status, out)
        return out


@pytest.fixture(scope="module")
def sh(daemon, probe):
    vm = daemon.run(probe)
    yield Shell(daemon, vm)
    daemon.cli("rm", vm["microvmId"], check=False)


def test_only_docker_capabilities_and_no_way_to_more(sh):
    caps = dict(re.findall(r"(Cap\w+):\s*(\w+)", sh("cat /proc/self/status")))
    assert caps["CapEff"] == caps["CapBnd"] == caps["CapPrm"] == "00000000a80425fb", caps
    assert caps["CapAmb"] == "0000000000000000"


OPEN_ALL = r"""cat > /tmp/open.pl <<'END'
use Fcntl; my ($kind, %majors);
open my $d, '<', '/proc/devices';
while (<$d>) { $kind = /^Char/ ? 0020000 : 0060000 if /^[CB]/; $majors{"$kind $1"} = 1 if /^\s*(\d+)/ }
$majors{$_} = 1 for "0060000", map { oct('0060000') . " $_" } 7, 251 .. 254, 259;
for my $key (sort keys %majors) {
    my ($k, $major) = split / /, $key; next unless defined $major;
    for my $minor (0 .. 17, 64, 183, 235) {
        for my $dir ('/', '/dev/', '/dev/shm/') {
            my $path = "${dir}n$major-$minor";
            syscall(133, $path, $k | 0666, $major << 8 | $minor);
            $made++ if -e $path;
            for my $mode (O_RDONLY, O_WRONLY, O_RDWR) {
                print(($k == 0020000 ? 'c' : 'b'), " $major $minor\n") if sysopen my $f, $path, $mode | O_NONBLOCK | O_NOCTTY;
            }
            unlink $path;
        }
    }
}
print "made $made\n";
END
perl /tmp/open.pl"""


def test_no_device_opens_but_the_harmless(sh):
    # mknod is in Docker's default set: nodes may be made, but neither on the root disk nor in /dev
    # does one of a disk, the console, the channel, memory or ports open.
    out = sh(OPEN_ALL).splitlines()
    assert int(out.pop().split()[1]) > 500, out
    harmless = {"c 1 3", "c 1 5", "c 1 7", "c 1 8", "c 1 9", "c 5 0", "c 5 2"}
    assert {x for x in out if not x.startswith("c 136 ")} <= harmless, out


@pytest.mark.parametrize("command", [
    "perl -e 'print syscall(169, 0xfee1dead, 672274793, 0x4321fedc, 0) == 0 ? \"YES\" : \"no $!\"'",
    "perl -e 'print syscall(175, \"\", 0, \"\") == 0 ? \"YES\" : \"no $!\"'",           # init_module
    "perl -e 'print syscall(227, 0, pack(\"qq\", 1, 0)) == 0 ? \"YES\" : \"no $!\"'",   # clock_settime
    "perl -e 'print syscall(165, \"none\", \"/mnt\", \"tmpfs\", 0, 0) == 0 ? \"YES\" : \"no $!\"'",  # mount
    # User namespaces are the application's to use; what they give does not reach further.
    "unshare -Ur sh -c 'mknod /dev/shm/u b 254 0 && head -c 1 /dev/shm/u && echo YES'",
    "unshare -Urm sh -c 'mount -t cgroup2 x /mnt && echo YES; mount -o remount,rw /proc/sys && echo YES'",
    "unshare -Urmpf sh -c 'mount -t proc x /mnt && echo h > /mnt/sysrq-trigger && echo YES'",
    "unshare -Urm sh -c 'umount /proc/kcore && head -c 1 /proc/kcore | grep -q . && echo YES'",
    "unshare -Urn sh -c 'echo 1 > /proc/sys/kernel/panic && echo YES'",
    "echo x > /proc/sysrq-trigger && echo YES",
    "echo 1 > /proc/sys/kernel/panic && echo YES",
    "echo '|/tmp/x' > /proc/sys/kernel/core_pattern && echo YES",
    "echo /tmp/x > /sys/kernel/uevent_helper && echo YES",
    "head -c 1 /proc/kcore | grep -q . && echo YES",
    "mount -t cgroup -o memory x /mnt && echo YES; mount -t cgroup2 x /mnt && echo YES",
    "ls /sys/fs/cgroup | grep -q cgroup.procs && echo 1 > /sys/fs/cgroup/cgroup.procs && echo YES",
    "umount -l /proc/sys && echo YES; umount -l /dev && echo YES",
    "dmesg -C 2>/dev/null && echo YES; swapon /n && echo YES",
    "hostname evil && echo YES",
    "cat /proc/1/root/init /.old_root /init 2>/dev/null | grep -q . && echo YES",
    "ls -d /newroot /run/tinderbox /proc/*/root/run/tinderbox 2>/dev/null | grep -q . && echo YES",
    "cat /proc/[0-9]*/comm | grep -q 'init\\|[t]inderbox' && echo YES",
])
def test_the_machine_is_out_of_reach(sh, command):
    assert "YES" not in sh(command)


def test_descriptors_of_the_agent_are_not_inherited(sh):
    out = sh("ls -l /proc/1/fd | awk '{print $9, $11}'; cat /proc/1/cgroup; ls -l /proc/self/ns")
    links = re.findall(r"^\d+ (\S+)$", out, re.M)
    assert links and all(re.match(r"/dev/null|pipe:|socket:|anon_inode:\[eventpoll\]", x) for x in links), out
    assert len(links) <= 4, out
    assert "0::/" in out


def test_no_listener_of_the_agent(sh):
    # Only the application's port; the agent speaks over the virtio port alone.
    out = sh("cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/unix 2>/dev/null")
    listening = re.findall(r"^\s*\d+: \S+:(\w{4}) \S+ 0A ", out, re.M)
    assert {int(p, 16) for p in listening} == {8080}, out
    assert not re.findall(r"@?/\S*tinderbox\S*", out)


def test_a_fork_bomb_ends_and_the_agent_answers(daemon, probe):
    vm = daemon.run(probe)
    try:
        shell = Shell(daemon, vm)
        shell("(perl -e 'for (1 .. 4) { fork } for (;;) { fork // select undef, undef, undef, .01 }' "
              ">/dev/null 2>&1 &) ; sleep 1")
        # Whether anything more starts among its processes is the application's business; suspending
        # needs the agent.
        lam = daemon.client("lambda-microvms")
        lam.suspend_microvm(microvmIdentifier=vm["microvmId"])
        daemon.wait_state(vm["microvmId"], "SUSPENDED", 30)
        lam.terminate_microvm(microvmIdentifier=vm["microvmId"])
        daemon.wait_state(vm["microvmId"], "TERMINATED", 20)
    finally:
        daemon.cli("rm", vm["microvmId"], check=False)


def test_memory_hogs_die_before_the_agent(daemon, probe):
    vm = daemon.run(probe)
    try:
        shell = Shell(daemon, vm)
        out = shell("perl -e '$x .= \"x\" x (1 << 20) for 1 .. 4000; print \"SURVIVED\"'; echo rc=$?", 120)
        assert "SURVIVED" not in out and "rc=0" not in out
        assert "alive" in shell("echo alive")
        assert "agent" in daemon.cli("exec", vm["microvmId"], "--", "echo", "agent").stdout
        # The memory of tmpfs is no process's: nobody can be killed for it.
        shell("head -c 400M /dev/zero > /dev/fill; head -c 400M /dev/zero > /dev/shm/fill; "
              "head -c 400M /dev/zero > /etc/hosts; rm -f /dev/fill /dev/shm/fill", 120)
        assert "agent" in daemon.cli("exec", vm["microvmId"], "--", "echo", "agent").stdout
    finally:
        daemon.cli("rm", vm["microvmId"], check=False)


def test_output_without_end_does_not_stop_the_agent(daemon, probe):
    vm = daemon.run(probe)
    try:
        shell = Shell(daemon, vm)
        shell("(yes spam > /proc/1/fd/1 2>/dev/null &); sleep 2")
        assert "alive" in shell("echo alive")
        assert "agent" in daemon.cli("exec", vm["microvmId"], "--", "echo", "agent").stdout
        assert "alive" in shell("echo alive")
    finally:
        daemon.cli("rm", vm["microvmId"], check=False)


def test_the_end_of_pid_1_ends_the_microvm(daemon, probe):
    vm = daemon.run(probe)
    daemon.cli("exec", vm["microvmId"], "--", "perl", "-e", "kill KILL => 1; kill TERM => 1; sleep 1",
               check=False)
    # From inside, PID 1 is immune to KILL and ignores what it does not handle: still there.
    assert "alive" in Shell(daemon, vm)("echo alive")
    daemon.cli("rm", vm["microvmId"])
    daemon.wait_state(vm["microvmId"], "TERMINATED")
