# SPDX-License-Identifier: Apache-2.0
"""An image whose server misbehaves on request: what the proxy and isolation tests talk to.

It listens on 8080, forks per connection and closes after one answer, except for /keep. POST /sh runs
its body with the shell, as the container's root."""

DOCKERFILE = """FROM debian:12
COPY --chmod=755 server /server
CMD ["/server"]
"""

SERVER = r"""#!/usr/bin/perl
use strict; use IO::Socket::INET; use Socket;
$| = 1; $SIG{CHLD} = 'IGNORE'; $SIG{PIPE} = 'IGNORE';
my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8080, Listen => 128,
                              ReuseAddr => 1) or die "listen: $!";
my ($c, $in, $head, %h);
sub nap { select(undef, undef, undef, shift) }
sub put { my $s = join '', @_; while (length $s) { my $n = syswrite $c, $s; exit unless $n; substr($s, 0, $n) = '' } }
sub more { my $n = sysread $c, $in, 65536, length $in; return $n }
sub bytes { my $n = shift; while (length $in < $n) { more() or return undef } return substr($in, 0, $n, '') }
sub line { while ((my $i = index $in, "\n") < 0) { more() or return undef } return substr($in, 0, index($in, "\n") + 1, '') }
sub answer { my ($body, @fields) = @_; put("HTTP/1.1 200 OK\r\n", map({"$_\r\n"} @fields), 'Content-Length: ', length $body, "\r\n\r\n", $body) }
sub body {
    return bytes($h{'content-length'} // 0) unless lc($h{'transfer-encoding'} // '') eq 'chunked';
    my $all = '';
    while (1) { my $n = hex(line() =~ s/[;\s].*//sr); last unless $n; $all .= bytes($n); line() }
    while ((my $t = line()) =~ /\S/) { $all .= "trailer:" . lc $t }
    return $all;
}
sub websocket {
    my ($sum) = `printf %s '$h{'sec-websocket-key'}258EAFA5-E914-47DA-95CA-C5AB0DC85B11' | sha1sum` =~ /^(\w+)/;
    my $accept = substr pack('u', pack 'H*', $sum), 1; chomp $accept;
    $accept =~ tr{` -_}{AA-Za-z0-9+/}; $accept = substr($accept, 0, 27) . '=';
    my $chosen = ($h{'sec-websocket-protocol'} // '') =~ /\bchat\b/ ? "Sec-WebSocket-Protocol: chat\r\n" : '';
    put("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: $accept\r\n$chosen\r\n");
    while (defined(my $two = bytes(2))) {
        my ($b0, $b1) = unpack 'CC', $two; my $n = $b1 & 127;
        $n = unpack 'n', bytes(2) if $n == 126; $n = unpack 'Q>', bytes(8) if $n == 127;
        my $mask = bytes(4); my $data = bytes($n) // last;
        $data ^= substr $mask x (length($data) / 4 + 1), 0, length $data;
        my $op = $b0 & 15; $op = 10 if $op == 9;
        if ($op == 1 && $data eq 'fields?') { $data = $head; $n = length $data }
        put(pack('C', 0x80 | $op), $n < 126 ? pack('C', $n) : $n < 65536 ? pack('Cn', 126, $n) : pack('CQ>', 127, $n), $data);
        last if $op == 8;
    }
}
my %do = (
    '/head' => sub { answer($head) },
    '/echo' => sub { my $b = body(); put("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
                     for (my $i = 0; $i < length $b; $i += 7000) { my $p = substr $b, $i, 7000; put(sprintf("%x\r\n", length $p), $p, "\r\n") }
                     put("0\r\nX-Sum: " . length($b) . "\r\n\r\n") },
    '/sh' => sub { open my $f, '>', "/tmp/s$$" or die; print $f body(); close $f; $SIG{CHLD} = 'DEFAULT'; answer(scalar `sh /tmp/s$$ 2>&1`) },
    '/204' => sub { put("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n") },
    '/304' => sub { put("HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: \"x\"\r\n\r\n") },
    '/103' => sub { put("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"); answer("late\n") },
    '/early' => sub { put("HTTP/1.1 413 Too Much\r\nContent-Length: 5\r\nConnection: close\r\n\r\nenuf\n"); shutdown $c, 1; nap(0.5) },
    '/nothing' => sub { },
    '/cut' => sub { put("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") },
    '/garbage' => sub { put("SSH-2.0-OpenSSH_9.2\r\n\r\n") },
    '/split' => sub { put("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!") },
    '/untold' => sub { put("HTTP/1.0 200 OK\r\n\r\nuntil the end\n") },
    '/proxyfields' => sub { answer("x", 'X-Aws-Proxy-Error: FAKE', 'X-Amzn-RequestId: fake', 'Connection: X-Hop', 'X-Hop: 1', 'X-Kept: 1') },
    '/silent' => sub { put("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"); 1 until eof_seen() },
    '/sse' => sub { put("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
                    for (1 .. 5) { put("8\r\ndata: $_\n\r\n"); nap(0.3) } put("0\r\n\r\n") },
    '/sink' => sub { nap($head =~ /nap=(\d+)/ ? $1 : 0); my ($left, $got) = ($h{'content-length'}, length $in); $in = '';
                     while ($got < $left) { more() or last; $got += length $in; $in = '' } answer("$got\n") },
);
sub eof_seen { my $r = ''; vec($r, fileno $c, 1) = 1; return 0 unless select $r, undef, undef, 600; return !sysread $c, my $x, 1 }
print "listening\n";
while (1) {
    $c = $l->accept or next;
    if (fork) { close $c; next }
    close $l;
    do {
        $head = ''; %h = ();
        while (defined(my $x = line())) { $head .= $x; last if $x =~ /^\r?\n/; $h{lc $1} = $2 if $x =~ /^([^:\s]+):\s*(.*?)\s*$/ }
        exit unless $head =~ m{^(\S+) ([^ ?]+)};
        my ($method, $path) = ($1, $2);
        if (lc($h{upgrade} // '') eq 'websocket') { websocket() }
        elsif ($path =~ m{^/flood/(\d+)}) { my $n = $1; my $mib = 'f' x (1 << 20); put("HTTP/1.1 200 OK\r\nContent-Length: ", $n << 20, "\r\n\r\n"); put($mib) for 1 .. $n }
        elsif ($path =~ m{^/keep}) { answer("pid=$$\n") }
        elsif ($method eq 'HEAD') { put("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n") }
        elsif ($do{$path}) { $do{$path}->() }
        else { answer("no such path\n") }
    } while ($head =~ m{^\S+ /keep});
    close $c; exit;
}
"""

FILES = {"Dockerfile": DOCKERFILE, "server": SERVER}
