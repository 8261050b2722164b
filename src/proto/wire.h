/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host<->guest protocol (docs/design/guest-protocol.md): HTTP/2 (RFC 9113) with prior knowledge
 * over the virtio-console port "tinderbox.agent". The host is the client, the agent the server.
 * Shared by both ends; no I/O here.
 */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include <stdint.h>

#define WIRE_PORT_NAME "tinderbox.agent"
#define WIRE_VERSION 1

/* A JSON request body, host to guest: a CA bundle fits. */
#define WIRE_MAX_REQUEST (4 * 1024 * 1024)
/* A JSON response body, guest to host. */
#define WIRE_MAX_JSON (256 * 1024)
/* Concurrent streams, and flow-control windows in bytes. */
#define WIRE_MAX_STREAMS 256
#define WIRE_STREAM_WINDOW (256 * 1024)
#define WIRE_CONN_WINDOW (4 * 1024 * 1024)
/* Payload of one exec or log frame. */
#define WIRE_MAX_FRAME_DATA 65536

/* Paths. JSON in, JSON out, 200 on success; errors are {"message": "..."} with 4xx/5xx. */
#define WIRE_INFO "/v1/info" /* GET  {version, kernel, uptimeMs} */
/* POST {rootDisk: slot, hostname, network: {address, prefix, gateway, dns}|null} */
#define WIRE_BOOT "/v1/boot"
/* POST {args, env: ["K=V"], cwd, user, capabilities: "default"|"all"}: start the container */
#define WIRE_START "/v1/start"
#define WIRE_WAIT "/v1/wait" /* GET  answers when the container ended: {exitCode, signal} */
#define WIRE_LOGS "/v1/logs" /* GET  frames stdout/stderr, until the container has ended */
/* POST frames both ways; SPEC {args, env, cwd, user, tty, cols, rows}; env adds to the container's
 */
#define WIRE_EXEC "/v1/exec"
/*
 * POST frames both ways: files of the running application, by its own root directory. SPEC {op,
 * path}; path is absolute. Answers end with EXIT or ERROR {message, code}: NOT_FOUND, EXISTS
 * (something on the path is not a directory, or is one), DISK_FULL, ARCHIVE_INVALID, INVALID,
 * INTERNAL.
 *   "list"   RECORD frames {name, type: "file"|"dir"|"link"|"other", mode, uid, gid, size, mtime,
 *            target}: first the path itself, links followed (name ""), then a directory's entries
 *            in no order, at most WIRE_FILES_MAX_LIST. A name that is no UTF-8 is null.
 *   "read"   STDOUT frames: a tar (pax), its members named from the last part of path on ("." for
 *            the root). A link at the end of path is sent as a link, with "/" after it followed.
 *            Sockets and the contents of file systems mounted below are left out.
 *   "write"  STDIN frames, STDIN_END: a tar (plain), unpacked in the directory path with owners,
 *            modes and times of files as in the archive; files are replaced, directories kept.
 *            Links are followed inside of path only. At most 4 GiB and 1000000 members. After an
 *            error what was unpacked stays.
 */
#define WIRE_FILES "/v1/files"
#define WIRE_FILES_MAX_LIST 10000
#define WIRE_HOOK \
    "/v1/hook" /* POST {port, path, body|null, timeoutMs, host}: {status}|{error, refused:bool} */
#define WIRE_SETTLE "/v1/settle"   /* POST {timeoutMs}: {settled, listeners:[port]} */
#define WIRE_STATS "/v1/stats"     /* GET  {uptimeMs, memTotalKiB, memAvailableKiB, cpuMs} */
#define WIRE_PREPARE "/v1/prepare" /* POST {dropCaches}: sync; the host then closes the channel */
/* POST {timeNs, entropy(base64), hostname, machineId, clone:bool, disconnected:bool}; disconnected:
 * what outside carried the machine's connections has gone (true of clones in any case) */
#define WIRE_RESUMED "/v1/resumed"
/*
 * Build machines only. Slots are disk numbers (0 = /dev/vda).
 * SCAN   POST {disk, size}: the zip of size bytes at the start of a disk. Frames: one RECORD per
 *        entry {path, type: "file"|"dir"|"link", mode, size, sha256, target}, then EXIT or ERROR.
 * READ   POST {disk, size, path, max}: STDOUT frames with one entry's bytes, then EXIT or ERROR.
 * MOUNT  POST {stage: slot, from: slot|null, network: {...}|null, caBundle: "PEM"|null}: stage
 *        read-write, from read-only.
 * RUN    frames as EXEC, the command runs in the stage as a container.
 * COPY   frames: SPEC {source: "context"|"stage", disk, size, dest, destIsDir, workdir, chown,
 *        chmod, sources: [pattern] (stage), mkdirs: [path], extract}, then (context) STDIN frames
 *        of newline-separated JSON pairs ["entry path", "target below dest"], STDIN_END; answers
 *        EXIT or ERROR. With no sources and no pairs it only makes mkdirs.
 * FINISH POST {}: unmount everything, sync.
 * ERROR frames here carry {message, code}: ARCHIVE_INVALID, NOT_FOUND, DISK_FULL, INTERNAL.
 */
#define WIRE_BUILD_SCAN "/v1/build/scan"
#define WIRE_BUILD_READ "/v1/build/read"
#define WIRE_BUILD_MOUNT "/v1/build/mount"
#define WIRE_BUILD_RUN "/v1/build/run"
#define WIRE_BUILD_COPY "/v1/build/copy"
#define WIRE_BUILD_FINISH "/v1/build/finish"
/* CONNECT with :authority "127.0.0.1:<port>" opens a TCP tunnel into the container's network. */

/*
 * Frames on exec, run, logs and scan streams: u8 type, u8[3] length (big endian), payload of at
 * most WIRE_MAX_FRAME_DATA bytes.
 */
enum wire_frame_type {
    WIRE_FRAME_SPEC = 1,      /* host, first: JSON exec spec */
    WIRE_FRAME_STDIN = 2,     /* host */
    WIRE_FRAME_STDIN_END = 3, /* host, empty */
    WIRE_FRAME_RESIZE = 4,    /* host: JSON {cols, rows} */
    WIRE_FRAME_SIGNAL = 5,    /* host: JSON {signal} (number) */
    WIRE_FRAME_STDOUT = 16,   /* guest */
    WIRE_FRAME_STDERR = 17,   /* guest */
    WIRE_FRAME_EXIT = 18,     /* guest, last: JSON {exitCode, signal} */
    WIRE_FRAME_ERROR = 19,    /* guest, last: JSON {message} */
    WIRE_FRAME_RECORD = 20,   /* guest: one JSON record (scan, files) */
};

#define WIRE_FRAME_HEADER 4

#endif
